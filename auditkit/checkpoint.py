"""Foreign checkpoints as flat names and tensors, read without running anything in them.

Safetensors, or PyTorch's own format with `weights_only=True`: tensors and plain containers, no code.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from auditkit import files
from auditkit.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def find(path: Path) -> list[Path]:
    """The checkpoint files behind a path: itself, or those anywhere in a folder. Symlinks are left out."""
    if path.is_file():
        return [path]
    found = [p for p in sorted(path.rglob("*")) if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink()] if path.is_dir() else []
    if not found:
        raise UserError(f"{path} is neither a checkpoint nor a folder with one ({', '.join(SUFFIXES)})")
    return found


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor in the file by the path that leads to it: "0.conv_in.weight", "optimizer.state.3.exp_avg".

    Raises:
        UserError: no checkpoint, or one that needs code to be read.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(files.check_safetensors(path)))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors and is not opened: convert it to safetensors where you trust it") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    return dict(_flat("", content))


def _flat(prefix: str, content: Any) -> list[tuple[str, Tensor]]:
    """(name, tensor) of everything in nested dictionaries and lists."""
    if isinstance(content, Tensor):
        return [(prefix, content)]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list | tuple) else ()
    return [pair for key, value in items for pair in _flat(f"{prefix}.{key}" if prefix else str(key), value)]


def sets(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Every complete set of tensors with the names and shapes of `wanted`, by what stands before the names ("module.", "ema/").

    Optimizers that number their parameters ("state.3.exp_avg") count in the order of `wanted`.
    """
    first = next(iter(wanted))
    prefixes = [name.removesuffix(first) for name in tensors if name == first or name.endswith((f".{first}", f"/{first}"))]
    found = {prefix: {k: tensors[prefix + k] for k in wanted if prefix + k in tensors} for prefix in prefixes}
    for name in [n for n in tensors if "state.0." in n]:
        head, tail = name.split("state.0.")
        numbered = {k: f"{head}state.{i}.{tail}" for i, k in enumerate(wanted)}
        found[f"{head}state.*.{tail}"] = {k: tensors[n] for k, n in numbered.items() if n in tensors}
    return {p: s for p, s in found.items() if len(s) == len(wanted) and all(s[k].shape == wanted[k].shape for k in wanted)}
