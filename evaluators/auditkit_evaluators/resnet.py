"""He et al.'s CIFAR ResNets (20, 32, 44, 56, 110 layers), loaded from safetensors: trained elsewhere or by train_judge.py.

Deep residual learning (2016), section 4.2, https://arxiv.org/abs/1512.03385: three stages of 16, 32 and 64 channels, option-A shortcuts
(every second pixel, zeros for the new channels), average pooling, one linear layer. Input in [0, 1], ImageNet mean and deviation.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from auditkit import files
from auditkit.errors import UserError
from auditkit_evaluators.votes import Floats

Scores = Callable[[Tensor], tuple[Floats, Floats]]

CHANNELS = (3,)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHUNK = 32  # images judged at once: what lies in the cache takes three quarters of the time of 250


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without weights."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.stride, self.more = stride, outside - inside

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return F.relu(y + short)


class ResNet(nn.Module):
    """Floats (B, 3, H, W) in [0, 1] to logits (B, K) and features (B, 64)."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for stage, (inside, outside, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2)), 1):
            first = Block(inside, outside, stride)
            self.add_module(f"layer{stage}", nn.Sequential(first, *(Block(outside, outside, 1) for _ in range(blocks - 1))))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        features = x.mean(dim=(2, 3))
        return self.linear(features), features


def load(file: Path, classes: int) -> ResNet:
    """The network in a safetensors file, in evaluation mode. Raises UserError when it does not fit."""
    tensors = load_file(files.check_safetensors(file))
    blocks = len({key.split(".")[1] for key in tensors if key.startswith("layer1.")})
    if not blocks or "linear.weight" not in tensors:
        raise UserError(f"{file} is no CIFAR ResNet: wanted tensors conv1, bn1, layer1 to layer3 and linear, found {_few(tensors)}")
    if tensors["linear.weight"].shape != (classes, 64):
        raise UserError(f"{file} has a last layer of {tuple(tensors['linear.weight'].shape)}, wanted ({classes}, 64)")
    network = ResNet(blocks, classes)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{file} does not fit a CIFAR ResNet of {6 * blocks + 2} layers: {str(error).splitlines()[1].strip()}") from error
    return network.eval()


def _few(tensors: dict[str, Tensor]) -> str:
    names = sorted(tensors)
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "") if names else "none"


def scores_of(network: nn.Module, chunk: int = CHUNK) -> Scores:
    """The function from uint8 images to (logits (B, K), features (B, D)) in float64, of a network for floats in [0, 1].

    It works where the network lies, on `chunk` images at once.
    """
    device = next(network.parameters()).device

    @torch.inference_mode()
    def scores(images: Tensor) -> tuple[Floats, Floats]:
        parts = [network(part.to(device).float() / 255) for part in torch.split(images, chunk)]
        logits, features = (torch.cat([p[i] for p in parts]).double().cpu().numpy() for i in (0, 1))
        return np.asarray(logits), np.asarray(features)

    return scores
