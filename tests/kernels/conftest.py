"""What the kernel tests share: where tensors live, tables, poisoned memory, and the rule that a kernel is as good as PyTorch."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from auditkit_kernels import philox

GUARD = 2048  # more than a block: a store without its mask must end in the guard, not in foreign memory


@pytest.fixture(autouse=True)
def made_on_the_device(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors that say nothing else, and the definition's draws, are made where --device says."""
    for draw in (philox.normal, philox.uniform):
        monkeypatch.setitem(draw.__kwdefaults__, "device", device)
    with torch.device(device):
        yield


@pytest.fixture
def near(device: str) -> float:
    """How far a kernel's normals may lie from the definition's: GPUs round logarithm and root on their own."""
    return 1e-6 if device == "cpu" else 2e-6


@pytest.fixture
def there(device: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Arguments that were written down before a test began, brought to the device; what has no memory (meta) stays."""
    return lambda given: {k: v.to(device) if isinstance(v, Tensor) and v.device.type == "cpu" else v for k, v in given.items()}


@pytest.fixture
def abar() -> Tensor:
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()


@pytest.fixture
def psi() -> Tensor:
    return torch.exp(-torch.arange(1000) / 1000)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New memory is NaN, with NaN cells before and after: a cell not written or written outside is seen."""
    storages: list[Tensor] = []

    def empty(*size: Any, **options: Any) -> Tensor:
        shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
        storage = torch.full((shape.numel() + 2 * GUARD,), float("nan"), **options)
        storages.append(storage)
        return storage[GUARD:-GUARD].view(shape)

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda tensor: empty(*tensor.shape, dtype=tensor.dtype, device=tensor.device))
    yield
    assert storages
    for storage in storages:
        assert storage[:GUARD].isnan().all()
        assert storage[-GUARD:].isnan().all()


@pytest.fixture
def as_good() -> Callable[[Tensor, Tensor, Tensor], None]:
    """kernel, torch, exact (float64): the kernel's largest error is at most twice PyTorch's, plus 2e-6 for its normals.

    Half precision: each cell within one unit in the last place.
    """

    def check(kernel: Tensor, torch_: Tensor, exact: Tensor) -> None:
        assert kernel.shape == torch_.shape == exact.shape
        assert kernel.dtype == torch_.dtype
        assert exact.dtype == torch.float64
        if kernel.dtype != torch.float32:
            # The interpreter truncates bfloat16: up to one unit in the last place, where PyTorch is off by half of one.
            unit = torch.finfo(kernel.dtype).eps * exact.abs() + torch.finfo(kernel.dtype).tiny
            assert ((kernel.double() - exact).abs() <= unit + 2e-6).all()
            return
        error = (kernel.double() - exact).abs().max().item()
        own = (torch_.double() - exact).abs().max().item()
        assert error <= 2 * own + 2e-6 * max(1.0, exact.abs().max().item()), (error, own)

    return check


@pytest.fixture
def rounded(device: str) -> Callable[[Tensor], Tensor]:
    """float32 -> bfloat16 as a kernel does it: compiled code rounds to nearest even, Triton's interpreter truncates."""
    if device == "cuda":
        return lambda exact: exact.bfloat16()
    return lambda exact: (exact.view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)
