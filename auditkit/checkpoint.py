"""Foreign checkpoints as flat names and tensors, read without running anything in them.

Safetensors, or PyTorch's own format with `weights_only=True`: tensors and plain containers, no code.
"""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from auditkit import files
from auditkit.errors import UserError

MOST_BYTES, DEEPEST = 64 * 10**9, 16
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
HARMLESS = (".json", ".txt", ".md", ".yaml", ".yml", ".toml", ".csv", ".log", ".html", ".png", ".jpg", ".jpeg", ".gitattributes")


def find(path: Path) -> list[Path]:
    """The checkpoint files behind a path: itself, or those anywhere in a folder. Symlinks are left out (`beside` names them)."""
    if path.is_file():
        return [path]
    found = [p for p in sorted(path.rglob("*")) if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink()] if path.is_dir() else []
    if not found:
        raise UserError(f"{path} is neither a checkpoint nor a folder with one ({', '.join(SUFFIXES)})")
    return found


def beside(path: Path, numbers: int) -> list[Path]:
    """The files of a folder that `find` leaves out and that could hold so many `numbers`: links, and all but text and pictures that are
    smaller than a byte for each."""
    listed = [p for p in sorted(path.rglob("*")) if p.is_symlink() or p.is_file()] if path.is_dir() else []
    found = {*find(path)}
    return [p for p in listed if p not in found and (p.is_symlink() or p.suffix.lower() not in HARMLESS or p.stat().st_size >= numbers)]


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor in the file by the path that leads to it: "0.conv_in.weight", "optimizer.state.3.exp_avg".

    Raises:
        UserError: no checkpoint, or one that needs code to be read.
    """
    return dict(_flat(content(path)))


def content(path: Path) -> Any:
    """What the file holds, as it was saved: tensors, numbers and plain containers. The one place where PyTorch's format is read.

    Raises:
        UserError: no checkpoint, one that needs code to be read, or one that unpacks to more than it is.
    """
    try:
        if path.suffix == ".safetensors":  # copies: the file is only mapped into memory
            return {name: tensor.clone() for name, tensor in load_file(files.check_safetensors(path)).items()}
        if zipfile.is_zipfile(path):
            unpacked, size = sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()), path.stat().st_size
            if unpacked > min(size, MOST_BYTES):  # torch.save compresses nothing: a file that grows is a bomb
                raise UserError(f"{path} ({size} bytes) unpacks to {unpacked} bytes, more than itself or 64 GB, and is not opened")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors and is not opened: convert it to safetensors where you trust it") from error
    except UserError:
        raise
    except Exception as error:  # a foreign file can fail in any way, and none of them is a bug of ours
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error


def _flat(content: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of everything in nested dictionaries and lists, to a depth of 16. A tensor that repeats its storage is no weight."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop(0)
        if isinstance(value, Tensor):
            if value.numel() * value.element_size() <= value.untyped_storage().nbytes():
                yield prefix, value
            continue
        items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ())
        if depth < DEEPEST:
            waiting[:0] = [(f"{prefix}.{key}" if prefix else str(key), inner, depth + 1) for key, inner in items]
