"""The denoising error of given images under a label: what the measuring attacks share.

Common random numbers: image i meets the same noise at the same timesteps under every label and in every model.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import diffusion
from auditkit.errors import UserError
from auditkit.sampling import Eps
from auditkit_attacks.target import Target, of_asked
from auditkit_kernels import noising, philox

BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is measured: `draws` noises of each image at each of `levels` timesteps, the middles of as many equal bins."""

    draws: int = 4
    levels: int = 10

    def __post_init__(self) -> None:
        for name, most in (("draws", 10**4), ("levels", diffusion.T)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"--set {name} must lie in 1..{most}, got {getattr(self, name)}")

    @property
    def timesteps(self) -> list[int]:
        return [math.floor((k + 0.5) * diffusion.T / self.levels) for k in range(self.levels)]


@torch.no_grad()
def errors(eps: Eps, x0: Tensor, label: int, budget: Budget, *, seed: int) -> Tensor:
    """Mean squared error of eps (N, levels) for x0 (N, C, H, W) under `label`, over `draws` noises each."""
    abar = diffusion.abar()
    found = torch.zeros(len(x0), budget.levels, dtype=torch.float64)
    for k, step in enumerate(budget.timesteps):
        for draw in range(budget.draws):
            for at in range(0, len(x0), BATCH):
                part = x0[at : at + BATCH]
                t = torch.full((len(part),), step)
                number = k * 10**4 + draw
                x_t = noising(part, t, abar, seed=seed, step=number, row0=at)
                wanted = philox.normal(tuple(part.shape), seed=seed, stream=philox.EPS, step=number, row0=at)
                said = eps(x_t, t, torch.full((len(part),), label)).cpu()
                found[at : at + BATCH, k] += (said - wanted).double().square().flatten(1).mean(1)
    return found / budget.draws


def of_class(target: Target) -> tuple[Tensor, Tensor]:
    """x_0 of the class's images in the model split (what training saw), and of those that it never saw. Raises ValueError without data."""
    if target.data is None or target.eps is None:
        raise ValueError("a measuring attack needs target.data and target.eps, and this target gives none")
    seen, unseen = (of_asked(target, *target.data(kind))[0] for kind in ("forget", "unseen"))
    return target.encode(seen), target.encode(unseen)
