"""Our UNet is diffusers' own, to the bit: forward, gradient, hooks, and blocks of another kind."""

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel

from auditkit import models
from auditkit.unet import Block, UNet

KINDS = {"digits": (1, 8), "small": (3, 16)}


def pair(architecture, shape, **options):
    """The same weights in ours and in diffusers' own."""
    ours = models.build(shape, 10, seed=0, architecture=models.ARCHITECTURES[architecture] | options).net
    theirs = UNet2DModel.from_config(ours.config).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.fast
def test_it_computes_what_diffusers_computes(architecture, training):
    channels, side = KINDS[architecture]
    ours, theirs = pair(architecture, (channels, side, side))
    blocks = [m for m in ours.modules() if isinstance(m, ResnetBlock2D)]
    assert blocks
    assert all(type(m) is Block for m in blocks)
    x, t, labels = (
        torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 500, 999]),
        torch.arange(3),
    )
    said = [net.train(training)(x, t, class_labels=labels).sample for net in (ours, theirs)]
    assert torch.equal(*said)
    for answer in said:
        torch.autograd.backward(answer.square().sum())
    for (name, mine), (_, its) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (mine.grad is None) == (its.grad is None), name
        assert mine.grad is None or torch.equal(mine.grad, its.grad), name


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"resnet_time_scale_shift": "scale_shift"}])
def test_blocks_of_another_kind_stay_what_they_are(options):
    ours, theirs = pair("digits", (1, 8, 8), **options)
    assert not any(isinstance(m, Block) for m in ours.modules())
    x, t, labels = torch.ones(2, 1, 8, 8), torch.tensor([3, 700]), torch.tensor([1, 10])
    assert torch.equal(ours(x, t, class_labels=labels).sample, theirs(x, t, class_labels=labels).sample)


def test_copies_and_hooks_work_as_before():
    net = models.build((1, 8, 8), 10, seed=0).net
    assert isinstance(net, UNet)
    twin, seen = copy.deepcopy(net), []
    for block in (m for m in twin.modules() if isinstance(m, Block)):
        block.conv2.register_forward_hook(lambda *_: seen.append(1))
    twin(torch.ones(1, 1, 8, 8), torch.tensor([5]), class_labels=torch.tensor([0]))
    assert len(seen) == sum(isinstance(m, Block) for m in twin.modules())
