"""Foreign checkpoints as flat names and tensors, read without running anything in them.

Safetensors, or PyTorch's own format with `weights_only=True`: tensors and plain containers, no code.
"""

import pickle
import re
import warnings
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
RECORDS = re.compile(r"[^/]*/(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|data/\d+|\.data/serialization_id)")
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
    found: dict[str, Tensor] = {}
    for name, tensor in _flat(path, content(path)):
        again = sum(other == name or other.startswith(f"{name} (") for other in found) + 1 if name in found else 1
        found[name if again == 1 else f"{name} ({again})"] = tensor  # {"a.b": ..., "a": {"b": ...}}: two tensors under one name
    return found


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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?i).*sparse", UserWarning)  # they are refused right after
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors and is not opened: convert it to safetensors where you trust it") from error
    except UserError:
        raise
    except Exception as error:  # a foreign file can fail in any way, and none of them is a bug of ours
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error


def unread_records(path: Path) -> list[str]:
    """The records of a PyTorch archive that torch itself does not read: whatever lies there, nobody has looked at it."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return []
    names = [entry.filename for entry in zipfile.ZipFile(path).infolist() if not entry.is_dir()]
    return [name for name in names if not RECORDS.fullmatch(name)]


def _flat(path: Path, content: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of everything in nested dictionaries and lists; of a tensor that repeats its storage, what the storage holds; of
    a list of Python's own numbers with a point, and of bytes, the same as a tensor.

    Raises:
        UserError: more than 16 levels, or a tensor that is no plain array.
    """
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop(0)
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_nested or value.is_meta:
                kind = (
                    "without numbers (meta)" if value.is_meta else "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
                )
                raise UserError(f"{path} holds {prefix!r}, a tensor that is {kind} and not read here: save plain ones")
            whole = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
            yield prefix, value if whole else torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())
            continue
        if isinstance(value, bytes | bytearray) and value:
            yield prefix, torch.frombuffer(bytearray(value), dtype=torch.uint8)
        if isinstance(value, list | tuple) and _leaf(value):
            yield prefix, torch.tensor(value, dtype=torch.float32)
            continue
        items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ())
        if items and depth >= DEEPEST:
            raise UserError(f"{path} nests more than {DEEPEST} levels at {prefix!r} and is not read here")
        waiting[:0] = [(f"{prefix}.{key}" if prefix else str(key), inner, depth + 1) for key, inner in items]


def _leaf(value: Any) -> bool:
    """Whether a list holds Python's own numbers with a point alone, or such lists of one length."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if all(isinstance(v, float) for v in value):
        return True
    return all(_leaf(v) for v in value) and len({len(v) for v in value}) == 1 and len({_deep(v) for v in value}) == 1


def _deep(value: Any) -> tuple[int, ...]:
    """The lengths of nested lists, level by level."""
    return (len(value), *_deep(value[0])) if isinstance(value, list | tuple) else ()
