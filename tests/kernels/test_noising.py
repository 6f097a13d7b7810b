from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auditkit_kernels import _launch, noising, philox
from auditkit_kernels.noising import unsupported

Close = Callable[[Tensor, Tensor, Tensor], None]
SHAPES = [(3, 3, 17, 21), (4, 1, 8, 8), (2, 5), (1, 1)]


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    t = torch.tensor([999, 0, 500, 37])[: shape[0]]
    return torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape).to(dtype), t


def definition(x0: Tensor, t: Tensor, abar: Tensor, **key: int) -> Tensor:
    eps = philox.normal(x0.shape, stream=philox.EPS, **key).double()
    a = abar.double()[t].reshape(-1, *[1] * (x0.dim() - 1))
    return a.sqrt() * x0.double() + (1 - a).sqrt() * eps


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_is_as_good_as_torch(shape: tuple[int, ...], dtype: torch.dtype, abar: Tensor, as_good: Close) -> None:
    x0, t = batch(shape, dtype)
    key = {"seed": 11, "step": 5, "row0": 2**32 - 4}
    exact = definition(x0, t, abar, **key)
    torch_ = noising(x0, t, abar, **key, impl="torch")
    assert (torch_.double() - exact).abs().max() < (1e-6 if dtype == torch.float32 else 0.02)
    as_good(noising(x0, t, abar, **key, impl="triton"), torch_, exact)


def test_bfloat16_is_the_float32_result_rounded_once(abar: Tensor, rounded: Callable[[Tensor], Tensor]) -> None:
    x0, t = batch(SHAPES[0], torch.bfloat16)
    wide = noising(x0.float(), t, abar, seed=1, impl="triton")
    assert torch.equal(noising(x0, t, abar, seed=1, impl="triton"), rounded(wide))
    assert torch.equal(noising(x0, t, abar, seed=1, impl="torch"), noising(x0.float(), t, abar, seed=1, impl="torch").bfloat16())


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.fast
def test_strides_do_not_matter(impl: str, abar: Tensor) -> None:
    x0, t = batch((3, 3, 17, 21))
    expected = noising(x0, t, abar, seed=1, impl=impl)
    wide_t, wide_abar = t.repeat_interleave(2)[::2], abar.repeat_interleave(3)[::3]
    storage = torch.full((6, 3, 21, 17), 1e6)
    storage[::2] = x0.transpose(2, 3)
    for strided in (x0.to(memory_format=torch.channels_last), storage[::2].transpose(2, 3)):
        assert not strided.is_contiguous()
        assert torch.equal(noising(strided, wide_t, wide_abar, seed=1, impl=impl), expected)


@pytest.mark.fast
def test_block_size_does_not_matter(abar: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    x0, t = batch((2, 1037))
    expected = noising(x0, t, abar, seed=1, impl="triton")
    for block in (256, 2048):
        monkeypatch.setattr(_launch, "block_size", lambda n, dtype, block=block: block)
        assert torch.equal(noising(x0, t, abar, seed=1, impl="triton"), expected)


@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_a_row_alone_equals_the_row_in_a_batch(impl: str, abar: Tensor) -> None:
    x0, t = batch((4, 3, 5, 7))
    whole = noising(x0, t, abar, seed=1, row0=10, impl=impl)
    assert torch.equal(noising(x0[2:3], t[2:3], abar, seed=1, row0=12, impl=impl), whole[2:3])


@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_a_prepared_key_gives_the_same_numbers(impl: str, abar: Tensor, device: str) -> None:
    x0, t = batch((4, 5))
    key = philox.key(2**64 - 9, 3, 4, device=device)
    assert torch.equal(noising(x0, t, abar, seed=key, impl=impl), noising(x0, t, abar, seed=-9, step=3, row0=4, impl=impl))


def test_a_timestep_beyond_the_table_is_nan_or_an_error(abar: Tensor) -> None:
    x0, _ = batch((3, 5))
    for wrong in (1000, -1, 2**40):
        t = torch.tensor([1, wrong, 2])
        out = noising(x0, t, abar, seed=1, impl="triton")
        assert out.isnan().all(1).tolist() == [False, True, False]
    with pytest.raises(IndexError):
        noising(x0.cpu(), torch.tensor([1, 1000, 2], device="cpu"), abar.cpu(), seed=1)


def test_auto_on_the_cpu_is_torch(abar: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noising.__globals__["launch"], "__code__", (lambda *a, **k: 1 / 0).__code__)
    x0, t, abar = (tensor.cpu() for tensor in (*batch((4, 5)), abar))
    assert torch.equal(noising(x0, t, abar, seed=1), noising(x0, t, abar, seed=1, impl="torch"))


def test_the_gradient_of_x0_goes_through_torch(abar: Tensor) -> None:
    x0, t = batch((4, 5))
    x0.requires_grad_()
    noising(x0, t, abar, seed=1).sum().backward()
    assert x0.grad is not None
    assert torch.allclose(x0.grad, abar[t].sqrt()[:, None].expand(4, 5))
    with pytest.raises(ValueError, match="no backward pass"):
        noising(x0, t, abar, seed=1, impl="triton")
    with torch.no_grad():
        assert unsupported(x0, abar) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": torch.ones(4, dtype=torch.int64)}, "expected x0 float"),
        ({"t": torch.zeros(3, dtype=torch.int64)}, r"expected t torch.int64 \(4,\), found"),
        ({"t": torch.zeros(4, dtype=torch.int32)}, r"expected t torch.int64 \(4,\), found torch.int32"),
        ({"t": torch.zeros(4, dtype=torch.int64, device="meta")}, "expected t on (cpu|cuda:0), as x0, found meta"),
        ({"abar": torch.ones(4, 4)}, r"expected abar float \(T,\)"),
        ({"abar": torch.ones(4, dtype=torch.int64)}, r"expected abar float \(T,\)"),
        ({"abar": torch.ones(4, dtype=torch.float64), "impl": "triton"}, "tables must be float32"),
        ({"x0": torch.ones(4, 5, dtype=torch.float64), "impl": "triton"}, "images must be float32"),
        ({"x0": torch.ones(4, 0), "impl": "triton"}, "no elements"),
        ({"impl": "cuda"}, "expected impl in"),
    ],
)
def test_what_cannot_be_used_is_refused(
    change: dict[str, Any], message: str, abar: Tensor, there: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    x0, t = batch((4, 5))
    with pytest.raises(ValueError, match=message):
        noising(**({"x0": x0, "t": t, "abar": abar, "seed": 1} | there(change)))
