"""Forward noising: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) EPS, with EPS drawn inside.

Source: Ho et al., "Denoising diffusion probabilistic models", equation 4, https://arxiv.org/abs/2006.11239.
"""

import torch
from torch import Tensor

from auditkit_kernels import philox
from auditkit_kernels._launch import check_batch, check_table, constexpr, jit, launch, needs_grad, tl, use_triton, why_not


def noising_ref(x0: Tensor, t: Tensor, abar: Tensor, *, seed: int, step: int = 0, row0: int = 0) -> Tensor:
    """The definition, in plain PyTorch, computed in the dtype of `abar`."""
    eps = philox.normal(x0.shape, seed=seed, stream=philox.EPS, step=step, row0=row0, device=x0.device).to(abar.dtype)
    a = abar[t].reshape(-1, *[1] * (x0.dim() - 1))
    return (a.sqrt() * x0.to(abar.dtype) + (1 - a).sqrt() * eps).to(x0.dtype)


@jit
def _kernel(x0, t, abar, key, out, n, timesteps, EPS: constexpr, BLOCK: constexpr):  # type: ignore[no-untyped-def]
    """One block of one row. Reads x_0 once, writes x_t once; nothing else is image-sized."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    element = first + tl.arange(0, BLOCK)
    inside = element < n
    # A timestep outside the table cannot raise here: its row becomes NaN instead of reading foreign memory.
    at = tl.load(t + row)
    a = tl.load(abar + at, mask=(at >= 0) & (at < timesteps), other=float("nan"))
    x = tl.load(x0 + row * n + element, mask=inside).to(tl.float32)
    eps = philox.normals(key, row, first, EPS, BLOCK)
    tl.store(out + row * n + element, tl.sqrt_rn(a) * x + tl.sqrt_rn(1 - a) * eps, mask=inside)


def unsupported(x0: Tensor, abar: Tensor) -> str | None:
    """The reason why the kernel cannot run, or None."""
    return why_not(x0, tables=(abar,)) or needs_grad(x0)


def noising(x0: Tensor, t: Tensor, abar: Tensor, *, seed: int | Tensor, step: int = 0, row0: int = 0, impl: str = "auto") -> Tensor:
    """Noised images x_t, shape and dtype of `x0` (B, C, H, W), computed in float32 when `abar` is float32.

    `t` (B,) int64 in 0..T-1; `abar` (T,) float32; row b draws EPS with the key (seed, EPS, step, row0 + b). `seed` may
    be a prepared `philox.key(seed, step, row0)`. On CUDA a `t` beyond the table gives a row of NaN.

    Raises:
        ValueError: a shape, dtype or device is wrong, or `impl="triton"` cannot run.
    """
    check_batch("x0", x0, {"t": (t, torch.int64)}, {"abar": abar})
    check_table("abar", abar)
    if not use_triton(impl, unsupported(x0, abar), x0):
        return noising_ref(x0, t, abar, **philox.as_ints(seed, step, row0, x0))
    x0, key = x0.contiguous(), philox.as_key(seed, step, row0, x0)
    out = torch.empty_like(x0)
    launch(_kernel, x0, x0, t.contiguous(), abar.contiguous(), key, out, x0[0].numel(), len(abar), EPS=philox.EPS)
    return out
