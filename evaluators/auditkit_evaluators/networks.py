"""Networks that join the ensemble, from safetensors files: each kind is known by its tensors, and loaded by its own module.

A module here has `load(file, classes)`, a network in evaluation mode; `CHANNELS`, what its images may have; and
`scores_of(network)`, the function from uint8 images to (logits (B, K), features (B, D)).
"""

import re
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError, safe_open

from auditkit import files
from auditkit.data import Dataset
from auditkit.errors import UserError
from auditkit_evaluators.resnet import Scores

# The tensor that only this kind has, and its module by path: torchvision is imported for the papers' judge alone.
LOADERS = {"linear.weight": "auditkit_evaluators.resnet", "fc.weight": "auditkit_evaluators.paper_judge"}


def load_all(path: Path, data: Dataset) -> list[tuple[str, Scores, str]]:
    """(name, scores, hash of the file) of each safetensors file at `path`, a file or a folder of them, by name.

    Raises:
        UserError: no such file, a file of neither kind, another number of classes, or images that it does not take.
    """
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{path} holds no .safetensors file: --judge-weights takes CIFAR ResNets and ResNet-34, one file each")
    return [(name_of(file), *_hashed(file, data)) for file in found]


def _hashed(file: Path, data: Dataset) -> tuple[Scores, str]:
    with files.unchanged([files.check_safetensors(file)]) as digest:
        return load(file, data), digest


def name_of(file: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "network"


def load(file: Path, data: Dataset) -> Scores:
    """The scores of the network in one file. Raises UserError when it is of no known kind or does not fit the data."""
    try:
        with safe_open(files.check_safetensors(file), framework="pt") as opened:
            keys = sorted(opened.keys())
    except SafetensorError as error:
        raise UserError(f"{file} is no safetensors file that can be read: {error}") from error
    kinds = [module for key, module in LOADERS.items() if key in keys]
    if len(kinds) != 1:
        found = ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "") if keys else "none"
        raise UserError(
            f"{file} is neither a CIFAR ResNet (tensors ... linear) nor torchvision's ResNet-34 (... fc): it has tensors {found}"
        )
    module, channels = import_module(kinds[0]), data.shape[0]
    if channels not in module.CHANNELS:
        raise UserError(f"{file} is a network for colour images, {data.name} has {channels} channel{'s' if channels > 1 else ''}")
    scores: Scores = module.scores_of(module.load(file, len(data.classes)))
    return scores
