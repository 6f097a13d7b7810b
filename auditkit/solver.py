"""DPM-Solver++(2M): the second-order multistep solver for guided sampling (Lu et al., https://arxiv.org/abs/2211.01095, algorithm 2).

x_p = sqrt((1 - abar_p) / (1 - abar_t)) x - sqrt(abar_p) (exp(-h) - 1) D,   lambda = log(abar / (1 - abar)) / 2,   h = lambda_p - lambda_t
D   = x_0 + (x_0 - x_0 before) / (2 r),   r = (lambda_t - lambda before) / h;   the first step, and the last to abar_p = 1, take D = x_0
"""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Before:
    """What a multistep solver keeps: the last prediction of x_0 and its lambda."""

    x0: Tensor
    level: float


def dpm_step(
    x: Tensor, eps: Tensor, abar_t: float, abar_p: float, *, w: float = 0.0, clip: bool = True, before: Before | None = None
) -> tuple[Tensor, Before]:
    """The next latent (B, C, H, W) and what the step after it needs; `eps` (2B, ...) is guided with strength `w`, (B, ...) is not.

    0 < `abar_t` < `abar_p` <= 1; with `clip` x_0 is kept in [-1, 1]. NaN stays NaN.
    """
    if len(eps) == 2 * len(x):
        conditional, null = eps.chunk(2)
        eps = (1 + w) * conditional - w * null
    x0 = (x - (1 - abar_t) ** 0.5 * eps) / abar_t**0.5
    if clip:
        x0 = x0.clamp(-1, 1)
    level = _level(abar_t)
    if abar_p == 1:
        return x0, Before(x0, level)
    h = _level(abar_p) - level
    slope = x0 if before is None else x0 + (x0 - before.x0) * (h / (2 * (level - before.level)))
    after = ((1 - abar_p) / (1 - abar_t)) ** 0.5 * x - abar_p**0.5 * math.expm1(-h) * slope
    return after, Before(x0, level)


def _level(abar: float) -> float:
    return 0.5 * math.log(abar / (1 - abar))
