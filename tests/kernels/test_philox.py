from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from scipy.stats import kstest
from torch import Tensor

from auditkit_kernels import philox

pytestmark = pytest.mark.fast

# Random123's known answers (kat_vectors, philox4x32 10), https://github.com/DEShawResearch/random123.
VECTORS = [
    (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (-1, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        0x299F31D0A4093822,
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
GOLDEN_WORDS = [1398412203, 3858007461, 2738846833, 770802969, 4020992029, 2663958744, 3514798910, 1224853308, 2934418805, 655984110]
GOLDEN_NORMALS = [-0.242027, 0.053204, 0.1988, -1.045283, 0.753448, -0.049915, 0.31979, 0.871045, -0.386569, 0.813577]
KEYS = [(0, 0, 0), (1, 2, 3), (2**63 + 11, 2**32 - 1, 2**32 - 3), (-5, 7, 2**31)]


@triton.jit
def _vector(seed, counters, out):
    lane = tl.arange(0, 4)
    zero = (lane * 0).to(tl.uint32)
    a, b, c, d = tl.philox(
        tl.load(seed),
        zero + tl.load(counters).to(tl.uint32),
        zero + tl.load(counters + 1).to(tl.uint32),
        zero + tl.load(counters + 2).to(tl.uint32),
        zero + tl.load(counters + 3).to(tl.uint32),
    )
    tl.store(out + lane, tl.where(lane == 0, a, tl.where(lane == 1, b, tl.where(lane == 2, c, d))).to(tl.int64))


@triton.jit
def _words(key, out, groups, STREAM: tl.constexpr, BLOCK: tl.constexpr):
    row, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
    a, b, c, d = philox.words(key, row, first, STREAM, BLOCK)
    group = first // 4 + tl.arange(0, BLOCK // 4)
    at, inside = out + (row * groups + group) * 4, group < groups
    tl.store(at, a.to(tl.int64), mask=inside)
    tl.store(at + 1, b.to(tl.int64), mask=inside)
    tl.store(at + 2, c.to(tl.int64), mask=inside)
    tl.store(at + 3, d.to(tl.int64), mask=inside)


@triton.jit
def _normals(key, out, n, STREAM: tl.constexpr, BLOCK: tl.constexpr):
    row, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
    element = first + tl.arange(0, BLOCK)
    tl.store(out + row * n + element, philox.normals(key, row, first, STREAM, BLOCK), mask=element < n)


def drawn(shape: tuple[int, int], *, stream: int, block: int | None = None, seed: int = 7, step: int = 0, row0: int = 0) -> Tensor:
    """Normals from the device function; interpreted, a program costs 10 ms whatever its size."""
    out = torch.full(shape, float("nan"))
    block = block or (1024 if out.is_cuda else 16384)
    grid = (shape[0], triton.cdiv(shape[1], block))
    key = philox.key(seed, step, row0, device=out.device)
    _normals[grid](key, out, shape[1], STREAM=stream, BLOCK=block, enable_fp_fusion=True)
    return out


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


@pytest.mark.parametrize(("seed", "counters", "expected"), VECTORS)
def test_known_answers(seed: int, counters: tuple[int, ...], expected: tuple[int, ...]) -> None:
    words = philox.philox4x32(seed, *(torch.tensor(c) for c in counters))
    assert tuple(int(word) for word in words) == expected
    out = torch.zeros(4, dtype=torch.int64)
    _vector[(1,)](philox.key(seed, device=out.device)[:1], torch.tensor(counters), out, enable_fp_fusion=True)
    assert tuple(out.tolist()) == expected


@pytest.mark.parametrize(("seed", "step", "row0"), KEYS)
@pytest.mark.parametrize("block", [64, 1024])
def test_integers_are_bit_equal(seed: int, step: int, row0: int, block: int) -> None:
    rows, groups = 3, 67
    expected = torch.stack(
        philox.philox4x32(seed, torch.arange(groups)[None], torch.tensor(5), torch.tensor(step), row0 + torch.arange(rows)[:, None]),
        dim=-1,
    )
    out = torch.full_like(expected, -1)
    grid = (rows, triton.cdiv(4 * groups, block))
    _words[grid](philox.key(seed, step, row0, device=out.device), out, groups, STREAM=5, BLOCK=block, enable_fp_fusion=True)
    assert torch.equal(out, expected)


@pytest.mark.parametrize(("seed", "step", "row0"), KEYS)
@pytest.mark.parametrize("n", [1, 63, 1037])
def test_normals_agree(seed: int, step: int, row0: int, n: int, near: float) -> None:
    expected = philox.normal((2, n), seed=seed, stream=philox.EPS, step=step, row0=row0)
    found = drawn((2, n), stream=philox.EPS, seed=seed, step=step, row0=row0)
    assert (found - expected).abs().max() < near


def test_many_normals_agree_and_are_normal(near: float) -> None:
    expected = philox.normal((4, 65536), seed=3, stream=philox.EPS)
    found = drawn((4, 65536), stream=philox.EPS, seed=3)
    assert (found - expected).abs().max() < near
    assert kstest(found.flatten().cpu().numpy(), "norm").pvalue > 0.01
    assert kstest(expected.flatten().cpu().numpy(), "norm").pvalue > 0.01


def test_block_size_does_not_matter() -> None:
    results = [drawn((2, 1037), stream=philox.EPS, block=block) for block in (256, 512, 2048)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_row_alone_equals_the_row_in_a_batch() -> None:
    for draw in (drawn, philox.normal):
        options: dict[str, Any] = {"stream": philox.X_T, "seed": 2**64 - 3}
        assert torch.equal(draw((4, 1037), **options)[3:], draw((1, 1037), row0=3, **options))


def test_a_shorter_row_is_the_beginning_of_a_longer_one() -> None:
    options: dict[str, Any] = {"stream": philox.X_T, "seed": 1}
    assert torch.equal(philox.normal((2, 13), **options), philox.normal((2, 16), **options)[:, :13])


@pytest.mark.parametrize("draw", [drawn, philox.normal])
@pytest.mark.parametrize(
    "other",
    [
        {"stream": philox.EPS_T},
        {"stream": philox.SAMPLER},
        {"step": 1},
        {"seed": 8},
        {"seed": 7 + 2**32},
        {"row0": 4},
    ],
)
def test_other_keys_are_independent(draw: Any, other: dict[str, int]) -> None:
    first = {"stream": philox.EPS, "seed": 7}
    assert abs(correlation(draw((4, 65536), **first), draw((4, 65536), **(first | other)))) < 0.01


@pytest.mark.parametrize("draw", [drawn, philox.normal])
def test_lanes_and_rows_are_independent(draw: Any) -> None:
    z = draw((4, 65536), stream=philox.EPS, seed=7)
    rows, lanes = torch.corrcoef(z.double()), torch.corrcoef(z.reshape(-1, 4).T.double())
    assert (rows - torch.eye(4)).abs().max() < 0.02
    assert (lanes - torch.eye(4)).abs().max() < 0.02


def test_a_stream_for_each_row() -> None:
    mixed = philox.normal((3, 5), seed=7, stream=torch.tensor([1, 2, 1]), row0=9)
    for row, stream in enumerate((1, 2, 1)):
        assert torch.equal(mixed[row], philox.normal((3, 5), seed=7, stream=stream, row0=9)[row])


def test_uniforms_are_in_range_and_uniform() -> None:
    u = philox.uniform((4, 65536), seed=7, stream=philox.DATA)
    assert u.dtype == torch.float64
    assert u.min() > 0
    assert u.max() < 1
    assert kstest(u.flatten().cpu().numpy(), "uniform").pvalue > 0.01


def test_numbers_of_earlier_runs(near: float) -> None:
    """A run can be repeated only while these stay; from the definition when the zoo was trained (torch 2.15)."""
    u = philox.uniform((2, 5), seed=42, stream=philox.DATA, step=3, row0=10)
    z = philox.normal((2, 5), seed=42, stream=philox.EPS, step=3, row0=10)
    assert [round(x * 2**32 - 0.5) for x in u.flatten().tolist()] == GOLDEN_WORDS
    assert z.flatten().tolist() == pytest.approx(GOLDEN_NORMALS, abs=near)


@pytest.mark.parametrize(("step", "row0"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**32 - 1)])
def test_counters_beyond_32_bits_are_refused(step: int, row0: int) -> None:
    with pytest.raises(ValueError, match="expected step and rows in"):
        philox.normal((2, 3), seed=0, stream=0, step=step, row0=row0)
    with pytest.raises(ValueError, match="expected step and rows in"):
        philox.as_key(0, step, row0, torch.ones(2, 3))


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_key_holds_any_seed(seed: int, device: str) -> None:
    ints = philox.as_ints(philox.key(seed, 5, 6, device=device), 0, 0, torch.ones(2, 3))
    assert (ints["seed"] - seed) % 2**64 == 0
    assert (ints["step"], ints["row0"]) == (5, 6)


def test_a_key_is_made_on_the_host_whatever_the_default_device() -> None:
    """Only host memory can be pinned."""
    with torch.device("meta"):
        assert philox.key(1, 2, 3, device="cpu").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("key", "step", "row0"),
    [(torch.zeros(2, dtype=torch.int64), 0, 0), (torch.zeros(3), 0, 0), (torch.zeros(3, dtype=torch.int64), 1, 0)],
)
def test_a_wrong_key_is_refused(key: Tensor, step: int, row0: int) -> None:
    with pytest.raises(ValueError, match="expected a key"):
        philox.as_key(key, step, row0, torch.ones(2, 3))
