"""One network in a folder: `config.json` and `diffusion_pytorch_model.safetensors`, as diffusers writes them.

A folder is foreign until it is read: only safetensors, symlinks refused, nothing is unpickled; who calls has checked the config's numbers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auditkit import files
from auditkit.errors import UserError

WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
PICKLED = "diffusion_pytorch_model.bin"
LONGEST = 300  # characters of a reason: torch lists all names that are missing
Tensors = dict[str, Tensor]


def weights(folder: Path) -> Path:
    """The weights in a folder, a whole safetensors file. Raises UserError for anything else."""
    path = folder / WEIGHTS
    if not path.exists() and (folder / PICKLED).exists():
        raise UserError(
            f"{folder} holds {PICKLED}, a pickle, and no {WEIGHTS}: pickles can run code and are never opened; "
            "where you trust it, load it with diffusers and write it again with save_pretrained"
        )
    return files.check_safetensors(path)


def read(
    kind: Any,
    config: dict[str, Any],
    folder: Path,
    *,
    named: Callable[[Tensors], Tensors] = dict,
    ready: Callable[[Any], None] | None = None,
) -> Any:
    """The network of class `kind` with `config` and the folder's weights, in float32 and in evaluation mode.

    The weights are copies: `load_file` maps the file into memory, and who writes into the file would write into the network.
    `named` turns the names of the file into those of the class; `ready(net)` computes what no file holds.

    Raises:
        UserError: weights that do not fit, that are no floating numbers, or that hold NaN or infinity.
    """
    path = weights(folder)
    try:
        with torch.device("meta"):  # shapes alone: a config that asks for terabytes costs nothing
            net = kind.from_config({k: v for k, v in config.items() if not k.startswith("_")})
        tensors = named({name: _copied(name, t) for name, t in load_file(path).items()})
        net.load_state_dict(tensors, assign=True)
        if ready:
            ready(net)
    except Exception as error:  # a foreign config can fail in any way inside diffusers, and none of them is a bug of ours
        raise UserError(f"{path} does not fit {folder / CONFIG}: {_reason(error)}") from error
    empty = [name for name, t in (*net.named_parameters(), *net.named_buffers()) if t.is_meta]
    if empty:
        raise UserError(f"{path} does not fit {folder / CONFIG}: it holds no {empty[0]}, which the network needs")
    bad = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if bad:
        raise UserError(f"{path} holds NaN or infinity in {bad[0]}: this model has diverged and cannot be audited")
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    return net.eval()


def _copied(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is of {tensor.dtype}, wanted floating numbers: quantised weights are not read")
    return tensor.to(torch.float32, copy=True)


def _reason(error: Exception) -> str:
    """The first sentence that says something: torch's first line about a state dict only announces the next ones."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."


def write(net: Any, called: str, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes a network whose class is `called` to a folder. Equal weights give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {k: v for k, v in dict(net.config).items() if not k.startswith("_")}
    (folder / CONFIG).write_text(json.dumps({"_class_name": called, **config}, indent=2, sort_keys=True) + "\n")
