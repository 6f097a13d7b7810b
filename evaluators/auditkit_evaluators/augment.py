"""What training images go through, so that a judge learns the class and not the picture: shifts, mirrors and noise.

Noise, because a judge that never saw any reads none: ResNets trained on clean CIFAR-10 refuse sqrt(.75) real + sqrt(.25) N(0, 1), where a
person sees every object.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1  # pixel; mean of three seeds on the calibration digits: .973 with it, .957 without, .953 with repeated edges
CLEAN = 0.5  # the share of images that stay as they are: a judge of noise alone would no longer know photographs
LEAST = 0.3  # of a on the ladder: below it even these judges read one image in three


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) moved by -SHIFT..SHIFT pixels in both directions, zeros moved in (as around CIFAR-10 crops)."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (SHIFT,) * 4)
    moves = torch.randint(2 * SHIFT + 1, (len(x), 2), generator=rng).tolist()
    return torch.stack([image[:, dy : dy + height, dx : dx + width] for image, (dy, dx) in zip(padded, moves, strict=True)])


def mirrored(x: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the images (B, C, H, W) left to right, where they have colours: grey ones may be digits or letters."""
    if x.shape[1] == 1:
        return x
    return torch.where((torch.rand(len(x), generator=rng) < 0.5)[:, None, None, None], x.flip(3), x)


def blended(x: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the images in [0, 1] (B, C, H, W) on the ladder of panel.py, sqrt(a) x + sqrt(1 - a) N(0, 1) in [-1, 1], with a in .3..1."""
    a = LEAST + (1 - LEAST) * torch.rand(len(x), generator=rng)
    a = torch.where(torch.rand(len(x), generator=rng) < CLEAN, 1.0, a)[:, None, None, None]
    noise = torch.randn(x.shape, generator=rng)
    return ((a.sqrt() * (2 * x - 1) + (1 - a).sqrt() * noise).clamp(-1, 1) + 1) / 2
