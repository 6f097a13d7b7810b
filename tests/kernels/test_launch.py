import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from auditkit_kernels import _launch, noising

pytestmark = pytest.mark.fast


def test_without_triton_the_package_works_and_says_why() -> None:
    program = """
import sys
sys.modules["triton"] = None
import torch
from auditkit_kernels import noising
args = torch.ones(2, 3), torch.tensor([0, 1]), torch.tensor([0.9, 0.5])
assert noising(*args, seed=1).isfinite().all()
try:
    noising(*args, seed=1, impl="triton")
except ValueError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert "triton is not installed" in done.stdout


def test_without_the_interpreter_a_cpu_tensor_is_refused(abar: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_INTERPRETED", False)
    with pytest.raises(ValueError, match="on cpu, a kernel needs CUDA"):
        noising(torch.ones(2, 3, device="cpu"), torch.tensor([0, 1], device="cpu"), abar.cpu(), seed=1, impl="triton")


@pytest.mark.parametrize(("capability", "found"), [((8, 0), None), ((9, 0), None), ((7, 5), "compute capability")])
def test_auto_takes_triton_on_cuda_only(capability: tuple[int, int], found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with FakeTensorMode():
        image = torch.ones(2, 3, device="cuda")
        reason = _launch.why_not(image)
        assert (reason is None) if found is None else (reason is not None and found in reason)
        assert _launch.use_triton("auto", reason, image) == (found is None)
    assert not _launch.use_triton("auto", None, torch.ones(2, 3, device="cpu"))


@pytest.mark.parametrize(("n", "block"), [(1, 64), (64, 64), (65, 128), (784, 1024), (1024, 1024), (3072, 1024)])
def test_block_size_covers_small_rows_once(n: int, block: int) -> None:
    assert _launch.block_size(n, torch.float32) == block


def test_rows_beyond_the_grid_are_refused() -> None:
    longest = 65_535 * 1024
    assert _launch.why_not(torch.ones(1, 1).expand(1, longest)) is None
    reason = _launch.why_not(torch.ones(1, 1).expand(1, longest + 1))
    assert reason is not None
    assert f"at most {longest} elements" in reason


@pytest.mark.parametrize(("shape", "grid", "warps"), [((5, 3, 32, 32), (5, 3), 4), ((2, 1, 8, 8), (2, 1), 1), ((1, 300), (1, 1), 2)])
def test_a_launch_covers_every_row_and_pins_contraction(shape: tuple[int, ...], grid: tuple[int, ...], warps: int) -> None:
    calls: list[tuple[object, dict[str, object]]] = []

    class Kernel:
        def __getitem__(self, grid: object) -> object:
            return lambda *arguments, **options: calls.append((grid, options))

    _launch.launch(Kernel(), torch.ones(shape), 1, EPS=1)
    block = _launch.block_size(torch.Size(shape[1:]).numel(), torch.float32)
    assert calls == [(grid, {"EPS": 1, "BLOCK": block, "num_warps": warps, "enable_fp_fusion": True})]
