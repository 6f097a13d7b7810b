"""The forward process: 1000 timesteps, linear betas 1e-4 to 0.02 (Ho et al., https://arxiv.org/abs/2006.11239, section 4).

Timesteps are 0..T-1; "abar_T" of the papers is abar[T-1].
"""

import torch
from torch import Tensor

T = 1000
PSI = ("exponential", "reversed", "constant", "linear", "snr")


def abar(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """The cumulative product of 1 - beta, shape (T,), computed in float64."""
    betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0).to(device, dtype)


def psi(lam: float, *, normalise: bool = False, kind: str = "exponential", device: torch.device | str = "cpu") -> Tensor:
    """The weight of forget rows for t in 0..T-1, float32 (T,); with `normalise` divided by its mean.

    exponential  exp(-lam t / T): SAFEMax's own. lam changes the amount of forgetting as well as its place: the mean is 1, .632, .100,
                 .021, .011 for lam 0, 1, 10, 50, 100
    reversed     exp(-lam (T-1-t) / T): the same amount, at the other end
    constant 1, linear 1 - t/T, snr SNR / (1 + SNR) = abar_t: without lam
    Raises ValueError for another kind.
    """
    t = torch.arange(T, dtype=torch.float64)
    weights = {
        "exponential": lambda: torch.exp(-lam * t / T),
        "reversed": lambda: torch.exp(-lam * (T - 1 - t) / T),
        "constant": lambda: torch.ones_like(t),
        "linear": lambda: 1 - t / T,
        "snr": lambda: abar(dtype=torch.float64),
    }
    if kind not in weights:
        raise ValueError(f"expected psi in {PSI}, found {kind!r}")
    weight = weights[kind]()
    return (weight / weight.mean() if normalise else weight).to(device, torch.float32)
