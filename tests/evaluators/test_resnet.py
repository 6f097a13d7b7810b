"""CIFAR ResNets from safetensors: the architecture by its parameters and by known weights, and what is refused."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from auditkit.errors import UserError
from auditkit_evaluators import ensemble, resnet


@pytest.mark.parametrize(("blocks", "millions"), [(3, 0.27), (5, 0.46), (9, 0.85)])
def test_the_papers_parameters(blocks, millions):
    """He et al., table 6: ResNet-20, 32 and 56."""
    assert round(sum(p.numel() for p in resnet.ResNet(blocks, 10).parameters()) / 1e6, 2) == pytest.approx(millions, abs=0.01)


def saved(path, classes=3, blocks=1, seed=0, **changes):
    torch.manual_seed(seed)
    network = resnet.ResNet(blocks, classes).eval()
    tensors = {k: v.clone() for k, v in network.state_dict().items()}
    save_file({**tensors, **changes}, path)
    return network


def test_what_was_saved_is_what_judges(tmp_path, colour):
    network = saved(tmp_path / "Net 20.safetensors")
    judge = ensemble.build(colour, weights=tmp_path, only=())[0]
    assert (judge.name, judge.family, judge.space) == ("net-20", "residual", "net-20")
    images = colour.part("heldout")[0]
    with torch.inference_mode():
        wanted = network(images.float() / 255)[0].argmax(1)
    assert (judge.judge(images).said == wanted.numpy()).all()
    assert judge.judge(images).features.shape == (len(images), 64)
    assert judge.fitted_on == f"weights {judge.sha[:12]}"


def test_normalisation_and_shortcut_by_hand():
    """A first block whose convolutions are zero passes its input on; the second stage halves it and pads channels on both sides."""
    block = resnet.Block(16, 32, 2).eval()
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    x = torch.rand(2, 16, 8, 8)
    y = block(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[..., ::2, ::2])
    assert y[:, :8].abs().max() == y[:, 24:].abs().max() == 0


def test_what_does_not_fit_is_refused(tmp_path):
    saved(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"has a last layer of \(3, 64\), wanted \(10, 64\)"):
        resnet.load(tmp_path / "a.safetensors", 10)
    saved(tmp_path / "b.safetensors", **{"conv1.weight": torch.zeros(16, 3, 5, 5)})
    with pytest.raises(UserError, match=r"does not fit a CIFAR ResNet of 8 layers: size mismatch for conv1\.weight"):
        resnet.load(tmp_path / "b.safetensors", 3)
    save_file({"fc.weight": torch.zeros(3, 64)}, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match="is no CIFAR ResNet: wanted tensors conv1"):
        resnet.load(tmp_path / "c.safetensors", 3)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "d.safetensors")
    with pytest.raises(UserError, match="is a pickle, wanted safetensors"):
        resnet.load(tmp_path / "d.safetensors", 3)


@pytest.mark.skipif(not os.environ.get("CIFAR10_PACKS"), reason="CIFAR10_PACKS does not name a folder with judges/resnet20.safetensors")
def test_known_weights_know_cifar10():
    import sys

    folder = Path(os.environ["CIFAR10_PACKS"])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from verdicts import cifar10

    data = cifar10(folder)
    images, labels = data.images[:500], data.labels[:500]
    network = resnet.load(folder / "judges" / "resnet20.safetensors", 10)
    assert (resnet.scores_of(network)(images)[0].argmax(1) == labels.numpy()).mean() > 0.88
