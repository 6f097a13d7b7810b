from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auditkit_kernels import _launch, eps_loss, philox
from auditkit_kernels import eps_loss as public
from auditkit_kernels.eps_loss import TARGETS

Close = Callable[[Tensor, Tensor, Tensor], None]
KEY = {"seed": 2**63 + 5, "step": 17, "row0": 3}
IMPLS = ["torch", "triton"]


def batch(shape: tuple[int, ...], abar: Tensor, psi: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    rows = shape[0]
    return {
        "pred": philox.normal(shape, seed=1, stream=philox.DATA).to(dtype),
        "t": torch.tensor([999, 0, 500, 37, 3, 800])[:rows],
        "forget": torch.tensor([True, False, True, True, False, True])[:rows],
        "weight": torch.tensor([0.5, 0.25, 2.0, 1.0, 3.0, 0.0])[:rows],
        "psi": psi,
        "x_t": philox.normal(shape, seed=2, stream=philox.DATA).to(dtype),
        "abar": abar,
    }


def definition(b: dict[str, Any], target: str, key: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Loss and gradient in float64 from the formulas, row by row, the gradient from autograd."""
    pred = b["pred"].double().requires_grad_()
    eps, eps_t = (philox.normal(pred.shape, stream=stream, **key).double() for stream in (philox.EPS, philox.EPS_T))
    rows = []
    for row, t in enumerate(b["t"].tolist()):
        if not b["forget"][row]:
            rows.append((eps[row] - pred[row]).square().mean())
            continue
        keep = b["abar"][-1].double() / b["abar"][t].double()
        wanted = {
            "terminal": eps_t[row],
            "mean": torch.zeros_like(eps_t[row]),
            "latent": keep.sqrt() * b["x_t"][row].double() + (1 - keep).sqrt() * eps_t[row],
        }[target]
        rows.append(b["psi"][t].double() * (wanted - pred[row]).square().mean())
    loss = torch.stack(rows)
    (grad,) = torch.autograd.grad((b["weight"].double() * loss).sum(), pred)
    return loss.detach(), grad


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(3, 3, 17, 21), (6, 1, 8, 8), (4, 5), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_is_as_good_as_torch(
    target: str, shape: tuple[int, ...], dtype: torch.dtype, abar: Tensor, psi: Tensor, as_good: Close
) -> None:
    b = batch(shape, abar, psi, dtype)
    exact = definition(b, target, KEY)
    torch_, kernel = (eps_loss(**b, **KEY, target=target, impl=impl) for impl in IMPLS)
    assert torch_[0].dtype == kernel[0].dtype == torch.float32
    for result, truth, own in zip(kernel, exact, torch_, strict=True):
        assert torch.allclose(own.double(), truth, rtol=1e-5 if own.dtype == torch.float32 else 0.01, atol=1e-6)
        as_good(result, own, truth)


def test_bfloat16_accumulates_in_float32(abar: Tensor, psi: Tensor, rounded: Callable[[Tensor], Tensor]) -> None:
    half = batch((3, 3, 17, 21), abar, psi, torch.bfloat16)
    wide = half | {"pred": half["pred"].float(), "x_t": half["x_t"].float()}
    loss, grad = eps_loss(**half, **KEY, target="latent", impl="triton")
    expected_loss, expected_grad = eps_loss(**wide, **KEY, target="latent", impl="triton")
    assert torch.allclose(loss, expected_loss, rtol=1e-6)  # a GPU's threads hold twice as many numbers of half the size: another order
    assert torch.equal(grad, rounded(expected_grad))


@pytest.mark.parametrize("impl", IMPLS)
def test_backward_with_grad_equals_autograd_of_the_weighted_sum(impl: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((6, 1, 8, 8), abar, psi)
    net = torch.nn.Conv2d(1, 1, 3, padding=1)
    x = b["x_t"]
    pred = net(x)
    b["pred"] = pred
    loss, grad = eps_loss(**b, **KEY, impl=impl)
    assert not loss.requires_grad
    assert not grad.requires_grad
    pred.backward(grad)
    found = net.weight.grad
    assert found is not None

    pred = net(x)
    eps, eps_t = (philox.normal(pred.shape, stream=stream, **KEY) for stream in (philox.EPS, philox.EPS_T))
    forget = b["forget"]
    squares = (torch.where(forget[:, None, None, None], eps_t, eps) - pred).square().mean((1, 2, 3))
    total = (b["weight"] * torch.where(forget, psi[b["t"]], 1.0) * squares).sum()
    assert torch.allclose(total, (b["weight"] * loss).sum(), rtol=1e-5)
    (expected,) = torch.autograd.grad(total, net.weight)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_forget_rows_aim_at_noise_that_is_not_in_their_image(impl: str, abar: Tensor, psi: Tensor) -> None:
    """With EPS_T equal to EPS the same code trains the class in: 100 % instead of below 1 %."""
    b = batch((4, 4096), abar, psi) | {"pred": torch.zeros(4, 4096), "weight": torch.ones(4)}
    _, grad = eps_loss(**b, **KEY, impl=impl)
    scale = torch.where(b["forget"], psi[b["t"]], 1.0)[:, None] * 2 / 4096
    aimed_at = -grad / scale
    eps, eps_t = (philox.normal((4, 4096), stream=stream, **KEY) for stream in (philox.EPS, philox.EPS_T))
    for row, forgotten in enumerate(b["forget"].tolist()):
        with_eps, with_eps_t = (float(torch.corrcoef(torch.stack([aimed_at[row], z[row]]))[0, 1]) for z in (eps, eps_t))
        assert abs(with_eps - (0 if forgotten else 1)) < 0.06
        assert abs(with_eps_t - (1 if forgotten else 0)) < 0.06


def test_mean_is_the_expected_gradient_of_terminal(abar: Tensor, psi: Tensor) -> None:
    draws, n = 4096, 16
    b = batch((1, n), abar, psi)
    many = {name: b[name].expand(draws, *b[name].shape[1:]) for name in ("pred", "t", "forget", "weight")} | {"psi": psi}
    _, mean = eps_loss(**b, seed=1, target="mean")
    _, terminal = eps_loss(**many, seed=1, target="terminal")
    noise_of_one = float(b["weight"][0] * psi[b["t"][0]] * 2 / n)
    assert torch.allclose(terminal.std(0), torch.full((n,), noise_of_one), rtol=0.05)
    assert (terminal.mean(0) - mean[0]).abs().max() < 4 * noise_of_one / draws**0.5
    assert mean.abs().max() > 20 * noise_of_one / draws**0.5


@pytest.mark.parametrize("impl", IMPLS)
def test_psi_weighs_forget_rows_by_their_timestep(impl: str, abar: Tensor) -> None:
    b = batch((6, 5), abar, torch.zeros(1000))
    b["psi"][500] = 3.0
    loss, grad = eps_loss(**b, **KEY, impl=impl)
    assert (loss > 0).tolist() == [False, True, True, False, True, False]
    assert torch.equal(grad.abs().sum(1) > 0, loss > 0)
    flat, _ = eps_loss(**(b | {"psi": torch.ones(1000)}), **KEY, impl=impl)
    assert loss[2] == pytest.approx(3 * flat[2])
    assert torch.equal(loss[[1, 4]], flat[[1, 4]])


@pytest.mark.parametrize("impl", IMPLS)
def test_latent_aims_at_the_end_of_the_chain(impl: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((2, 64), abar, psi) | {"t": torch.tensor([999, 999])}
    b["pred"] = b["x_t"].clone()
    loss, _ = eps_loss(**b, **KEY, target="latent", impl=impl)
    assert loss[0] < 1e-12
    b["x_t"][1] = float("nan")
    loss, grad = eps_loss(**b, **KEY, target="latent", impl=impl)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


def test_one_launch_for_forget_and_retain(abar: Tensor, psi: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[Any] = []

    def counted(*arguments: Any, **constants: Any) -> None:
        launches.append(arguments[0])
        _launch.launch(*arguments, **constants)

    monkeypatch.setitem(public.__globals__, "launch", counted)
    eps_loss(**batch((6, 5), abar, psi), **KEY, impl="triton")
    assert len(launches) == 1


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_row_alone_equals_the_row_in_a_batch(impl: str, target: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((3, 1037), abar, psi)
    loss, grad = eps_loss(**b, **KEY, target=target, impl=impl)
    alone = {name: b[name][2:3] for name in ("pred", "t", "forget", "weight", "x_t")} | {"psi": psi, "abar": abar}
    loss_alone, grad_alone = eps_loss(**alone, **(KEY | {"row0": KEY["row0"] + 2}), target=target, impl=impl)
    assert torch.equal(grad_alone, grad[2:3])
    assert loss_alone.item() == pytest.approx(loss[2].item(), rel=1e-6)


def test_block_size_does_not_matter(abar: Tensor, psi: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch((2, 1037), abar, psi)
    loss, grad = eps_loss(**b, **KEY, impl="triton")
    for block in (256, 2048):
        monkeypatch.setattr(_launch, "block_size", lambda n, dtype, block=block: block)
        monkeypatch.setitem(public.__globals__, "block_size", _launch.block_size)
        other_loss, other_grad = eps_loss(**b, **KEY, impl="triton")
        assert torch.equal(other_grad, grad)
        assert torch.allclose(other_loss, loss, rtol=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_strides_do_not_matter(impl: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((3, 3, 5, 7), abar, psi)
    expected = eps_loss(**b, **KEY, target="latent", impl=impl)
    strided = {name: b[name].repeat_interleave(2, 0)[::2] for name in b}
    strided |= {name: b[name].to(memory_format=torch.channels_last) for name in ("pred", "x_t")}
    assert not any(tensor.is_contiguous() for tensor in strided.values())
    found = eps_loss(**strided, **KEY, target="latent", impl=impl)
    assert torch.allclose(found[0], expected[0], rtol=1e-6)
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_in_a_prediction_is_seen(impl: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((4, 5), abar, psi)
    b["pred"][2, 3] = float("nan")
    loss, grad = eps_loss(**b, **KEY, impl=impl)
    assert loss.isnan().tolist() == [False, False, True, False]
    assert grad.isnan().nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("target", TARGETS)
def test_a_timestep_beyond_the_table_is_nan_in_the_kernel(target: str, abar: Tensor, psi: Tensor) -> None:
    b = batch((4, 5), abar, psi) | {"t": torch.tensor([1000, 0, -1, 3])}
    loss, grad = eps_loss(**b, **KEY, target=target, impl="triton")
    assert loss.isnan().tolist() == [True, False, True, False]
    assert grad.isnan().all(1).tolist() == [True, False, True, False]


def test_a_prepared_key_gives_the_same_numbers(abar: Tensor, psi: Tensor, device: str) -> None:
    b = batch((4, 5), abar, psi)
    key = philox.key(KEY["seed"], KEY["step"], KEY["row0"], device=device)
    for impl in IMPLS:
        for found, expected in zip(eps_loss(**b, seed=key, impl=impl), eps_loss(**b, **KEY, impl=impl), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget": torch.ones(4)}, r"expected forget torch.bool \(4,\), found torch.float32"),
        ({"weight": torch.ones(4, dtype=torch.int64)}, r"expected weight float \(4,\)"),
        ({"weight": torch.ones(4, 1)}, r"expected weight float \(4,\)"),
        ({"psi": torch.ones(())}, r"expected psi float \(T,\)"),
        ({"target": "eps"}, "expected target in"),
        ({"target": "latent", "x_t": None}, "expected, for latent, x_t"),
        ({"target": "latent", "abar": torch.ones(9)}, "expected, for latent, x_t"),
        ({"target": "latent", "x_t": torch.ones(4, 5, device="meta")}, "expected x_t on (cpu|cuda:0)"),
        ({"psi": torch.ones(1000, dtype=torch.float64), "impl": "triton"}, "tables must be float32"),
        ({"pred": torch.ones(4, 5, dtype=torch.float64), "impl": "triton"}, "images must be float32"),
        ({"impl": "fast"}, "expected impl in"),
    ],
)
def test_what_cannot_be_used_is_refused(
    change: dict[str, Any], message: str, abar: Tensor, psi: Tensor, there: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    with pytest.raises(ValueError, match=message):
        eps_loss(**(batch((4, 5), abar, psi) | {"seed": 1} | there(change)))
