"""How an operation reaches Triton, and the reason when it cannot.

`auto` takes Triton for CUDA tensors that it can handle and plain PyTorch for the rest. Triton's interpreter
(TRITON_INTERPRET=1 before the first import of triton) runs the kernels on CPU tensors, 10 ms a program: for tests, so
`auto` never takes it.
"""

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

# There are no wheels for macOS and Windows.
triton: Any = None
tl: Any = None
with contextlib.suppress(ImportError):
    triton = importlib.import_module("triton")
    tl = importlib.import_module("triton.language")

if TYPE_CHECKING:
    constexpr = int
else:
    # Not as a string: Triton's interpreter would quote it a second time and take the argument for a tensor.
    constexpr = getattr(tl, "constexpr", None)

IMPLS = ("auto", "triton", "torch")
# CUDA launches at most 65,535 blocks along the second axis of a grid.
_LONGEST_ROW = 65_535 * 1024
HALF = (torch.bfloat16, torch.float16)
_INTERPRETED = triton is not None and bool(triton.knobs.runtime.interpret)


def jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit(kernel)`, or None where Triton is missing: the package imports everywhere."""
    return None if triton is None else triton.jit(kernel)


def why_not(*images: Tensor, tables: Sequence[Tensor] = ()) -> str | None:
    """The reason why a kernel cannot take these image-sized tensors and (T,) tables, or None when it can."""
    device = images[0].device
    if triton is None:
        return "triton is not installed (it has no wheels for macOS and Windows)"
    if device.type != "cuda" and not (_INTERPRETED and device.type == "cpu"):
        return f"the tensors are on {device}, a kernel needs CUDA (tests: TRITON_INTERPRET=1 before triton is imported)"
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"Triton needs compute capability 8.0, {device} has {torch.cuda.get_device_capability(device)}"
    for image in images:
        if image.dtype not in (torch.float32, *HALF):
            return f"images must be float32, bfloat16 or float16, found {image.dtype}"
        if image.numel() == 0:
            return "there are no elements"
        if image[0].numel() > _LONGEST_ROW:
            return f"a row has at most {_LONGEST_ROW} elements, found {image[0].numel()}"
    for table in tables:
        if table.dtype != torch.float32:
            return f"tables must be float32, found {table.dtype}"
    return None


def needs_grad(*tensors: Tensor) -> str | None:
    """The reason "no backward pass" when autograd is recording these tensors, or None."""
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return "autograd is recording, and the kernel has no backward pass" if recorded else None


def use_triton(impl: str, reason: str | None, image: Tensor) -> bool:
    """Whether to run the kernel. Raises ValueError for an unknown `impl`, and for "triton" with a reason against it."""
    if impl not in IMPLS:
        raise ValueError(f"expected impl in {IMPLS}, found {impl!r}")
    if impl == "triton" and reason is not None:
        raise ValueError(f"impl='triton' cannot run: {reason}")
    return impl == "triton" or (impl == "auto" and image.is_cuda and reason is None)


def block_size(n: int, dtype: torch.dtype) -> int:
    """Elements of one program, for rows of n: a power of two, at least 64.

    The largest gives 16-byte loads: 1024 in float32, and in half precision on NVIDIA (128 threads); AMD's 256 threads
    need 2048 for half precision (with 1024 they load 8 bytes). Measured in machine code, tests/kernels/test_aot.py.
    """
    largest = 2048 if torch.version.hip is not None and dtype in HALF else 1024
    return max(64, min(largest, 1 << (n - 1).bit_length()))


def launch(kernel: Any, image: Tensor, *arguments: Any, **constants: Any) -> None:
    """Runs `kernel` on a grid of (rows, blocks of a row); `image` (B, ...) gives the sizes."""
    n = image[0].numel()
    block = block_size(n, image.dtype)
    with torch.cuda.device_of(image):  # type: ignore[no-untyped-call]
        # Contraction is pinned: left out, Triton 3.9 warns, and 3.10 turns it off (11 % more instructions).
        kernel[(image.shape[0], -(-n // block))](
            *arguments, **constants, BLOCK=block, num_warps=max(1, min(4, block // 256)), enable_fp_fusion=True
        )


def check_batch(name: str, image: Tensor, rows: dict[str, tuple[Tensor, torch.dtype | None]], others: dict[str, Tensor]) -> None:
    """Raises ValueError unless `image` is float (B, ...), `rows` are (B,) of their dtype (None: any float), all on one device."""
    if image.dim() < 2 or not image.is_floating_point():
        raise ValueError(f"expected {name} float (B, ...), found {image.dtype} {tuple(image.shape)}")
    for row, (tensor, dtype) in rows.items():
        right = tensor.is_floating_point() if dtype is None else tensor.dtype == dtype
        if tuple(tensor.shape) != (image.shape[0],) or not right:
            raise ValueError(f"expected {row} {dtype or 'float'} ({image.shape[0]},), found {tensor.dtype} {tuple(tensor.shape)}")
    for other, tensor in {**{row: pair[0] for row, pair in rows.items()}, **others}.items():
        if tensor.device != image.device:
            raise ValueError(f"expected {other} on {image.device}, as {name}, found {tensor.device}")


def check_table(name: str, table: Tensor) -> None:
    """Raises ValueError unless `table` is a float (T,), one number per timestep."""
    if table.dim() != 1 or len(table) == 0 or not table.is_floating_point():
        raise ValueError(f"expected {name} float (T,), found {table.dtype} {tuple(table.shape)}")
