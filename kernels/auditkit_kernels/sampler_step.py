"""One guided sampler step: guidance, x_0 prediction, clipping, re-derived eps, DDIM / DDPM update.

eps    = (1 + w) eps_c - w eps_null
x_0    = clip((x - sqrt(1 - abar_t) eps) / sqrt(abar_t), -1, 1)
eps    = (x - sqrt(abar_t) x_0) / sqrt(1 - abar_t)          with `rederive`; diffusers calls it use_clipped_model_output
sigma^2 = eta^2 (1 - abar_p) / (1 - abar_t) (1 - abar_t / abar_p)
x_p    = sqrt(abar_p) x_0 + sqrt(1 - abar_p - sigma^2) eps + sigma SAMPLER

eta = 0 is DDIM (Song et al., equation 12, https://arxiv.org/abs/2010.02502); eta = 1 with `rederive` is ancestral DDPM.
"""

import torch
from torch import Tensor

from auditkit_kernels import philox
from auditkit_kernels._launch import HALF, check_batch, constexpr, jit, launch, needs_grad, tl, use_triton, why_not


def sampler_step_ref(
    x: Tensor,
    eps: Tensor,
    abar_t: float,
    abar_p: float,
    *,
    w: float = 0.0,
    eta: float = 0.0,
    clip: bool = True,
    rederive: bool = True,
    seed: int = 0,
    step: int = 0,
    row0: int = 0,
) -> Tensor:
    """The definition, in plain PyTorch, computed in the dtype of `x`."""
    if eps.shape[0] == 2 * x.shape[0]:
        conditional, null = eps.to(x.dtype).chunk(2)
        eps = (1 + w) * conditional - w * null
    eps = eps.to(x.dtype)
    x0 = (x - (1 - abar_t) ** 0.5 * eps) / abar_t**0.5
    if clip:
        x0 = x0.clamp(-1, 1)
        if rederive:
            eps = (x - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    variance = _variance(abar_t, abar_p, eta)
    out: Tensor = abar_p**0.5 * x0 + max(1 - abar_p - variance, 0.0) ** 0.5 * eps
    if variance > 0:
        noise = philox.normal(x.shape, seed=seed, stream=philox.SAMPLER, step=step, row0=row0, device=x.device)
        out = out + variance**0.5 * noise.to(x.dtype)
    return out


def _variance(abar_t: float, abar_p: float, eta: float) -> float:
    return eta**2 * (1 - abar_p) / (1 - abar_t) * (1 - abar_t / abar_p)


@jit
def _kernel(  # type: ignore[no-untyped-def]
    x,
    eps,
    key,
    out,
    n,
    w,
    root_t,
    inverse_root_t,
    root_rest,
    inverse_root_rest,
    root_p,
    direction,
    sigma,
    GUIDED: constexpr,
    CLIP: constexpr,
    REDERIVE: constexpr,
    NOISE: constexpr,
    SAMPLER: constexpr,
    BLOCK: constexpr,
):
    """One block of one row. Reads x once and eps once (guided: both halves), writes x_p once; no division per element."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    element = first + tl.arange(0, BLOCK)
    inside = element < n
    here = tl.load(x + row * n + element, mask=inside).to(tl.float32)
    e = tl.load(eps + row * n + element, mask=inside).to(tl.float32)
    if GUIDED:
        null = tl.load(eps + (row + tl.num_programs(0)) * n + element, mask=inside).to(tl.float32)
        e = (1 + w) * e - w * null
    x0 = (here - root_rest * e) * inverse_root_t
    if CLIP:
        # The default drops NaN: a prediction of NaN became the pixel 0.645.
        x0 = tl.clamp(x0, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL)
        if REDERIVE:
            e = (here - root_t * x0) * inverse_root_rest
    after = root_p * x0 + direction * e
    if NOISE:
        after += sigma * philox.normals(key, row, first, SAMPLER, BLOCK)
    tl.store(out + row * n + element, after, mask=inside)


def unsupported(x: Tensor, eps: Tensor) -> str | None:
    """The reason why the kernel cannot run, or None."""
    return why_not(x, eps) or needs_grad(x, eps)


def sampler_step(
    x: Tensor,
    eps: Tensor,
    abar_t: float,
    abar_p: float,
    *,
    w: float = 0.0,
    eta: float = 0.0,
    clip: bool = True,
    rederive: bool = True,
    seed: int | Tensor = 0,
    step: int = 0,
    row0: int = 0,
    impl: str = "auto",
) -> Tensor:
    """The next latent x_p, shape and dtype of `x` (B, C, H, W); half latents are computed in float32.

    `eps` (2B, ...) holds the conditional half and then the null half, guided with strength `w`; (B, ...) is not guided.
    0 < `abar_t` < 1 now, 0 < `abar_p` <= 1 after the step (1: the image); `eta` 0 (DDIM) to 1 (DDPM); `clip` keeps x_0 in
    [-1, 1]; `seed`, `step`, `row0` key the SAMPLER noise as in `noising`. NaN predictions stay NaN.

    Raises:
        ValueError: a shape, dtype, device or number is wrong, or `impl="triton"` cannot run.
    """
    check_batch("x", x, {}, {"eps": eps})
    guided = eps.shape[0] == 2 * len(x)
    if eps.shape[1:] != x.shape[1:] or len(eps) not in (len(x), 2 * len(x)) or not eps.is_floating_point():
        raise ValueError(f"expected eps float (B or 2B, ...) for x {tuple(x.shape)}, found {eps.dtype} {tuple(eps.shape)}")
    if w != 0 and not guided:
        raise ValueError(f"expected both halves of eps, {2 * len(x)} rows, for w {w}, found {len(eps)}")
    if not (0 < abar_t < 1 and 0 < abar_p <= 1 and eta >= 0) or (eta > 0 and abar_p < abar_t):
        found = f"abar_t {abar_t}, abar_p {abar_p}, eta {eta}"
        raise ValueError(f"expected 0 < abar_t < 1, 0 < abar_p <= 1, eta >= 0 and abar_p >= abar_t if eta > 0, found {found}")
    if not use_triton(impl, unsupported(x, eps), x):
        wide = x.float() if x.dtype in HALF else x
        draw = philox.as_ints(seed, step, row0, x)
        return sampler_step_ref(wide, eps, abar_t, abar_p, w=w, eta=eta, clip=clip, rederive=rederive, **draw).to(x.dtype)
    variance = _variance(abar_t, abar_p, eta)
    x, eps = x.contiguous(), eps.contiguous()
    out, key = torch.empty_like(x), philox.as_key(seed, step, row0, x) if variance > 0 else x
    roots = (abar_t**0.5, abar_t**-0.5, (1 - abar_t) ** 0.5, (1 - abar_t) ** -0.5, abar_p**0.5)
    numbers = (float(w), *roots, max(1 - abar_p - variance, 0.0) ** 0.5, max(variance, 0.0) ** 0.5)
    flags = {"GUIDED": guided, "CLIP": clip, "REDERIVE": rederive, "NOISE": variance > 0}
    launch(_kernel, x, x, eps, key, out, x[0].numel(), *numbers, **flags, SAMPLER=philox.SAMPLER)
    return out
