"""The weighted eps loss of one mixed batch, with its gradient, in one pass.

Row b:  loss_b = s_b * mean_p (target_bp - pred_bp)^2,   grad_bp = weight_b * s_b * (2 / P) * (pred_bp - target_bp)
  retain rows: target = EPS (the noise that `noising` added to this row), s_b = 1
  forget rows: s_b = psi[t_b], and the target is
    terminal  EPS_T ~ N(0, I), drawn independently of EPS          (SAFEMax, https://arxiv.org/abs/2508.20773)
    mean      E[EPS_T] = 0: equal expected gradient, no target variance
    latent    x_T given x_t:  sqrt(abar_T / abar_t) x_t + sqrt(1 - abar_T / abar_t) EPS_T
Targets are regenerated from their keys and never stored. The caller puts 1/n_forget and alpha/n_retain into `weight`
and calls `pred.backward(grad)`: one read and one write of an image-sized tensor instead of four.
"""

import math

import torch
from torch import Tensor

from auditkit_kernels import philox
from auditkit_kernels._launch import block_size, check_batch, check_table, constexpr, jit, launch, tl, use_triton, why_not

TARGETS = ("terminal", "mean", "latent")


def eps_loss_ref(
    pred: Tensor,
    t: Tensor,
    forget: Tensor,
    weight: Tensor,
    psi: Tensor,
    *,
    seed: int,
    step: int = 0,
    row0: int = 0,
    target: str = "terminal",
    x_t: Tensor | None = None,
    abar: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition, in plain PyTorch, computed in the dtype of `psi`."""
    dtype, column = psi.dtype, (-1, *[1] * (pred.dim() - 1))
    stream = torch.where(forget, philox.EPS_T, philox.EPS)
    wanted = philox.normal(pred.shape, seed=seed, stream=stream, step=step, row0=row0, device=pred.device).to(dtype)
    if target == "mean":
        wanted = torch.where(forget.reshape(column), torch.zeros_like(wanted), wanted)
    if target == "latent":
        if x_t is None or abar is None:
            raise ValueError("expected x_t and abar for the target latent, found None")
        keep = (abar[-1] / abar[t]).to(dtype).reshape(column)
        latent = keep.sqrt() * x_t.to(dtype) + (1 - keep).clamp_min(0).sqrt() * wanted
        wanted = torch.where(forget.reshape(column), latent, wanted)
    scale = torch.where(forget, psi[t], torch.ones_like(psi[t]))
    difference = pred.detach().to(dtype) - wanted
    loss = scale * difference.square().flatten(1).mean(1)
    grad = (weight.to(dtype) * scale * (2 / math.prod(pred.shape[1:]))).reshape(column) * difference
    return loss, grad.to(pred.dtype)


@jit
def _kernel(  # type: ignore[no-untyped-def]
    pred,
    t,
    forget,
    weight,
    psi,
    x_t,
    abar,
    key,
    partial,
    grad,
    n,
    timesteps,
    inverse_n,
    MEAN: constexpr,
    LATENT: constexpr,
    EPS: constexpr,
    EPS_T: constexpr,
    BLOCK: constexpr,
):
    """One block of one row, forget or retain. Reads pred once and writes grad once (`latent`: reads x_t of forget rows too).

    A program writes its own partial loss, so the sum is the same in every run; atomics would not be.
    """
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    element = first + tl.arange(0, BLOCK)
    inside = element < n
    at, forgotten = tl.load(t + row), tl.load(forget + row) != 0
    # A timestep outside the table cannot raise here: its row becomes NaN instead of reading foreign memory.
    known = (at >= 0) & (at < timesteps)
    scale = tl.where(forgotten, tl.load(psi + at, mask=known, other=float("nan")), 1.0)
    wanted = philox.normals(key, row, first, tl.where(forgotten, EPS_T, EPS).to(tl.uint32), BLOCK)
    if MEAN:
        wanted = tl.where(forgotten, 0.0, wanted)
    if LATENT:
        keep = tl.div_rn(tl.load(abar + timesteps - 1), tl.load(abar + at, mask=known, other=float("nan")))
        x = tl.load(x_t + row * n + element, mask=element < tl.where(forgotten, n, 0), other=0.0).to(tl.float32)
        rest = tl.maximum(1 - keep, 0.0, propagate_nan=tl.PropagateNan.ALL)
        wanted = tl.where(forgotten, tl.sqrt_rn(keep) * x + tl.sqrt_rn(rest) * wanted, wanted)
    difference = tl.load(pred + row * n + element, mask=inside, other=0.0).to(tl.float32) - wanted
    slope = tl.load(weight + row).to(tl.float32) * scale * (2 * inverse_n)
    tl.store(grad + row * n + element, slope * difference, mask=inside)
    total = tl.sum(tl.where(inside, difference * difference, 0.0), axis=0)
    tl.store(partial + row * tl.num_programs(1) + tl.program_id(1), scale * inverse_n * total)


def unsupported(pred: Tensor, psi: Tensor, x_t: Tensor | None = None, abar: Tensor | None = None) -> str | None:
    """The reason why the kernel cannot run, or None. `x_t` and `abar` count for the target "latent" only."""
    images, tables = [pred] if x_t is None else [pred, x_t], [psi] if abar is None else [psi, abar]
    return why_not(*images, tables=tables)


def eps_loss(
    pred: Tensor,
    t: Tensor,
    forget: Tensor,
    weight: Tensor,
    psi: Tensor,
    *,
    seed: int | Tensor,
    step: int = 0,
    row0: int = 0,
    target: str = "terminal",
    x_t: Tensor | None = None,
    abar: Tensor | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Loss of each row, (B,) in the dtype of `psi` and without `weight`, and grad, shape and dtype of `pred` (B, C, H, W), with it.

    `t` (B,) int64 in 0..T-1; `forget` (B,) bool; `weight` (B,) float; `psi` (T,) float32; `seed`, `step`, `row0` as in
    `noising`. The target "latent" needs `x_t`, shaped as `pred`, and `abar` (T,) float32. Half predictions are
    accumulated in float32. On CUDA a forget row with a `t` beyond the table gives NaN.

    Raises:
        ValueError: a shape, dtype, device or target is wrong, or `impl="triton"` cannot run.
    """
    if target not in TARGETS:
        raise ValueError(f"expected target in {TARGETS}, found {target!r}")
    rows = {"t": (t, torch.int64), "forget": (forget, torch.bool), "weight": (weight, None)}
    check_batch("pred", pred, rows, {"psi": psi})
    check_table("psi", psi)
    if target != "latent":
        x_t = abar = None
    elif x_t is None or abar is None or x_t.shape != pred.shape or abar.shape != psi.shape:
        found = [None if tensor is None else tuple(tensor.shape) for tensor in (x_t, abar)]
        raise ValueError(f"expected, for latent, x_t {tuple(pred.shape)} and abar {tuple(psi.shape)}, found {found[0]} and {found[1]}")
    else:
        check_batch("pred", pred, {}, {"x_t": x_t, "abar": abar})
    if not use_triton(impl, unsupported(pred, psi, x_t, abar), pred):
        return eps_loss_ref(pred, t, forget, weight, psi, **philox.as_ints(seed, step, row0, pred), target=target, x_t=x_t, abar=abar)
    n = pred[0].numel()
    pred, key = pred.detach().contiguous(), philox.as_key(seed, step, row0, pred)
    x_t, abar = (pred if x_t is None else x_t.contiguous()), (psi if abar is None else abar).contiguous()
    grad, partial = torch.empty_like(pred), torch.empty(len(pred), -(-n // block_size(n, pred.dtype)), device=pred.device)
    arrays = (pred, t.contiguous(), forget.contiguous(), weight.contiguous(), psi.contiguous(), x_t, abar, key, partial, grad)
    launch(_kernel, pred, *arrays, n, len(psi), 1 / n, MEAN=target == "mean", LATENT=target == "latent", EPS=philox.EPS, EPS_T=philox.EPS_T)
    return partial.sum(1), grad
