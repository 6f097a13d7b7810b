"""The forward process: 1000 timesteps, linear betas 1e-4 to 0.02 (Ho et al., https://arxiv.org/abs/2006.11239, section 4).

Timesteps are 0..T-1; "abar_T" of the papers is abar[T-1].
"""

import torch
from torch import Tensor

T = 1000


def abar(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """The cumulative product of 1 - beta, shape (T,), computed in float64."""
    betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0).to(device, dtype)


def psi(lam: float, *, normalise: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """SAFEMax's weight exp(-lam t / T) for t in 0..T-1, float32 (T,); with `normalise` divided by its mean.

    lam changes the amount of forgetting as well as its place: the mean is 1, .632, .100, .021, .011 for lam 0, 1, 10, 50, 100.
    """
    weight = torch.exp(-lam * torch.arange(T, dtype=torch.float64) / T)
    return (weight / weight.mean() if normalise else weight).to(device, torch.float32)
