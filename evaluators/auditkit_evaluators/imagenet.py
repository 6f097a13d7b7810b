"""ImageNet weights of torchvision's ResNet-34: from a file that the user has, or from where torchvision publishes them.

Nothing but tensors is read from either; code in a pickle is refused and not run.
"""

import pickle
from pathlib import Path

import torch
import torchvision  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from auditkit import files
from auditkit.errors import UserError

PUBLISHED = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
MAX_WEIGHTS = 2**30  # bytes; the published file has 87 MB


def tensors(weights: Path | None) -> dict[str, Tensor]:
    """The tensors by torchvision's names, of the file `weights` (.safetensors, or as torch.save writes it), or downloaded where it is None.

    Raises:
        UserError: no such file, one that holds anything but tensors, or a download that failed.
    """
    return _download() if weights is None else _read(weights)


def _download() -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = PUBLISHED.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"cannot download ImageNet weights of ResNet-34 ({str(error).splitlines()[0] if str(error) else type(error).__name__}): "
            f"fetch {PUBLISHED.url} where there is a network, and give it with --start FILE"
        ) from error
    return found


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle without code."""
    size = files.regular(path).stat().st_size
    if size > MAX_WEIGHTS:
        raise UserError(f"{path} has {size} bytes, at most {MAX_WEIGHTS} are read: it cannot be ResNet-34")
    try:
        if path.suffix == ".safetensors":
            found = load_file(files.check_safetensors(path))
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} holds more than tensors, or is damaged; nothing in it was run ({type(error).__name__})") from error
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise UserError(f"{path} holds {type(found).__name__}, wanted a dictionary of tensors")
    return found
