"""Philox4x32-10: every random number of auditkit, keyed by what it is for and not by when it is drawn.

key = seed (64 bit); counter = (element // 4, stream, step, row); element i of a row takes lane i % 4.
So a number depends on (seed, stream, step, row, element) alone: not on batch size, block size or device, and a
resumed run draws what the uninterrupted one would have drawn. Integers are bit-equal between this plain PyTorch
definition and Triton; normals agree to 1e-6 (the kernel uses a float32 polynomial for the angle, this file float64).

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), https://doi.org/10.1145/2063384.2063405.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from auditkit_kernels._launch import constexpr, jit, tl

# The streams. Two uses that share one would be correlated: with EPS_T equal to EPS, SAFEMax trains the class *in*.
X_T, EPS, EPS_T, SAMPLER, TIMESTEP, DROPOUT, DATA, SURROGATE = range(8)

_LOW32 = 0xFFFFFFFF


def philox4x32(seed: int, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four uint32 words (held in int64) for each counter (c0, c1, c2, c3), int64 tensors that broadcast."""
    k0, k1 = seed & _LOW32, (seed >> 32) & _LOW32
    c0, c1, c2, c3 = (c.clone() for c in torch.broadcast_tensors(c0, c1, c2, c3))  # type: ignore[no-untyped-call]
    for _ in range(10):
        # int64 products wrap modulo 2^64, so their low 64 bits are exact; the mask makes the arithmetic shift logical.
        c0.mul_(0xD2511F53)
        c2.mul_(0xCD9E8D57)
        n0 = (c2 >> 32).bitwise_and_(_LOW32).bitwise_xor_(c1).bitwise_xor_(k0)
        n2 = (c0 >> 32).bitwise_and_(_LOW32).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3, c0, c2 = c2.bitwise_and_(_LOW32), c0.bitwise_and_(_LOW32), n0, n2
        k0, k1 = (k0 + 0x9E3779B9) & _LOW32, (k1 + 0xBB67AE85) & _LOW32
    return c0, c1, c2, c3


def _blocks(
    seed: int, stream: int | Tensor, step: int, row0: int, rows: int, n: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four words of each block: four (rows, ceil(n / 4)) tensors, for rows row0, row0 + 1, ..."""
    check_counters(step, row0, rows)
    block = torch.arange(-(-n // 4), device=device)[None, :]
    row = torch.arange(row0, row0 + rows, device=device)[:, None]
    purpose = stream.reshape(-1, 1) if isinstance(stream, Tensor) else torch.tensor(stream, device=device)
    return philox4x32(seed, block, purpose, torch.tensor(step, device=device), row)


def uniform(shape: Sequence[int], *, seed: int, stream: int, step: int = 0, row0: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [2^-33, 1), float64, shape (rows, ...); row b is keyed by row0 + b."""
    n = math.prod(shape[1:])
    words = torch.stack(_blocks(seed, stream, step, row0, shape[0], n, device), dim=-1).flatten(1)[:, :n]
    return (words.double() * 2**-32 + 2**-33).reshape(tuple(shape))


def normal(
    shape: Sequence[int], *, seed: int, stream: int | Tensor, step: int = 0, row0: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal numbers, float32, shape (rows, ...); row b is keyed by row0 + b. Largest magnitude 6.76.

    `stream` may be an int64 tensor (rows,), one stream for each row.
    """
    n = math.prod(shape[1:])
    a, b, c, d = _blocks(seed, stream, step, row0, shape[0], n, device)
    pairs = (*_box_muller(a, b), *_box_muller(c, d))
    return torch.stack(pairs, dim=-1).flatten(1)[:, :n].reshape(tuple(shape))


def _box_muller(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    radius = torch.sqrt(-2.0 * torch.log(x.float() * 2**-32 + 2**-33))
    angle = y.double() * (2 * math.pi / 2**32)
    return radius * torch.cos(angle).float(), radius * torch.sin(angle).float()


def check_counters(step: int, row0: int, rows: int) -> None:
    """Raises ValueError unless `step` and the rows fit 32 bits: beyond, two keys would give the same numbers."""
    if not (0 <= step <= _LOW32 and row0 >= 0 and row0 + rows <= _LOW32 + 1):
        raise ValueError(f"expected step and rows in 0..2^32-1, found step {step} and rows {row0}..{row0 + rows - 1}")


def key(seed: int, step: int = 0, row0: int = 0, *, device: torch.device | str) -> Tensor:
    """(seed, step, row0) where a kernel reads them: int64 (3,) on `device`. A public operation takes it as its `seed`.

    In device memory they change without recompilation, and a CUDA graph can advance them.
    """
    check_counters(step, row0, 1)
    words = torch.tensor([(seed + 2**63) % 2**64 - 2**63, step, row0], device="cpu")  # whatever the default device is
    # From pageable memory the copy would wait for the whole stream.
    return words.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else words.to(device)


def as_key(seed: int | Tensor, step: int, row0: int, image: Tensor) -> Tensor:
    """The key of a launch: `seed` itself if it is one. Raises ValueError for a wrong key or counters beyond 32 bits."""
    if not isinstance(seed, Tensor):
        check_counters(step, row0, image.shape[0])
        return key(seed, step, row0, device=image.device)
    if seed.shape != (3,) or seed.dtype != torch.int64 or seed.device != image.device or (step, row0) != (0, 0):
        found = f"{seed.dtype} {tuple(seed.shape)} on {seed.device}, with step {step} and row0 {row0}"
        raise ValueError(f"expected a key int64 (3,) on {image.device} that holds step and row0, found {found}")
    return seed.contiguous()


def as_ints(seed: int | Tensor, step: int, row0: int, image: Tensor) -> dict[str, int]:
    """The keyword arguments seed, step and row0 of a definition. Reading a key on a GPU waits for it."""
    if not isinstance(seed, Tensor):
        return {"seed": seed, "step": step, "row0": row0}
    return dict(zip(("seed", "step", "row0"), as_key(seed, step, row0, image).tolist(), strict=True))


@jit
def words(key, row, first, stream, BLOCK: constexpr) -> Any:  # type: ignore[no-untyped-def]
    """In a kernel: four uint32 (BLOCK / 4,) blocks for elements first .. first + BLOCK - 1 of a row; `first` divides by 4."""
    group = (first // 4 + tl.arange(0, BLOCK // 4)).to(tl.uint32)
    # uint32 counters select Philox4x32; int64 ones would silently select Philox4x64, other numbers.
    zero = group * 0
    step = tl.load(key + 1).to(tl.uint32)
    return tl.philox(tl.load(key), group, zero + stream, zero + step, zero + (tl.load(key + 2) + row).to(tl.uint32))


@jit
def polar(x, y) -> Any:  # type: ignore[no-untyped-def]
    """In a kernel: Box-Muller of two uint32 blocks, with the sine and cosine of Cephes on the nearest quadrant.

    39 instructions an element with Philox, against 143 with tl.cos and tl.sin (sm_90); error of the angle 6.8e-7.
    """
    r = tl.sqrt(-2.0 * tl.log(x.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10))
    quadrant = (y + 0x20000000) >> 30
    f = (y << 2).to(tl.int32, bitcast=True).to(tl.float32) * 3.657295198167899e-10
    s = f * f
    sine = f + f * s * (-1.6666654611e-1 + s * (8.3321608736e-3 + s * -1.9515295891e-4))
    cosine = 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5))
    odd = (quadrant & 1) != 0
    c, n = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    return r * tl.where(((quadrant + 1) & 2) != 0, -c, c), r * tl.where((quadrant & 2) != 0, -n, n)


@jit
def normals(key, row, first, stream, BLOCK: constexpr) -> Any:  # type: ignore[no-untyped-def]
    """In a kernel: `normal` of elements first .. first + BLOCK - 1 of a row, float32 (BLOCK,), in their order."""
    a, b, c, d = words(key, row, first, stream, BLOCK)
    n0, n1 = polar(a, b)
    n2, n3 = polar(c, d)
    # The inner order 0, 2 / 1, 3 puts the lanes back to back; in float32 no data moves.
    return tl.reshape(tl.join(tl.join(n0, n2), tl.join(n1, n3)), (BLOCK,))
