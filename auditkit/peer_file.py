"""Checkpoint files of SalUn and Selective Amnesia: a list of 3 or 4, a bare state dict or a bare average, and nothing else.

[weights with "module." before each name, Adam's state, step]                   SalUn's unlearned models: sampled from these weights
[weights with "module." before each name, Adam's state, step, average]          base training and SA: sampled from the average (EMA)
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditkit import checkpoint, files
from auditkit.errors import UserError

KINDS = ("raw", "ema")
PREFIX = "module."  # what DataParallel puts before every name
WANTED = "a list [weights, optimizer, step] or [weights, optimizer, step, EMA], or one state dict"


@dataclass(frozen=True)
class PeerFile:
    """What a file holds: its form in words, the training step, its sets of weights by kind, and which of them the peers sampled."""

    path: Path
    sha256: str
    form: str
    step: int | None
    sets: dict[str, dict[str, Tensor]]
    sampled: str

    def pick(self, kind: str | None) -> tuple[str, dict[str, Tensor]]:
        """The kind that is asked for, or else the one that the peers sampled, and its weights, checked to be finite.

        Raises:
            UserError: the file does not hold it, or it holds NaN or infinity.
        """
        kind = kind or self.sampled
        if kind not in self.sets:
            raise UserError(f"{self.path} holds no {kind} weights: it is {self.form}; use --weights {' or '.join(self.sets)}")
        weights = self.sets[kind]
        for name, tensor in weights.items():
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{self.path} holds NaN or infinity in {name} ({kind}): this model has diverged and cannot be audited")
        return kind, weights


def read(path: Path) -> PeerFile:
    """What is in a checkpoint of the peers; nothing in it is run.

    Raises:
        UserError: the file is missing, is no checkpoint or of no form above, or its tensors are larger than itself.
    """
    size = files.regular(path).stat().st_size
    with files.unchanged([path]):
        content, digest = checkpoint.content(path), files.sha256_file(path)
    form, step, sets, sampled = _form(path, content)
    if any(sum(t.numel() * t.element_size() for t in weights.values()) > size for weights in sets.values()):
        raise UserError(f"{path} is {size} bytes and its tensors are more: they repeat themselves and are not opened")
    return PeerFile(path, digest, form, step, sets, sampled)


def _form(path: Path, content: Any) -> tuple[str, int | None, dict[str, dict[str, Tensor]], str]:
    if isinstance(content, list) and len(content) in (3, 4):
        step = content[2]
        if not isinstance(content[1], dict) or not isinstance(step, int) or isinstance(step, bool) or step < 0:
            found = ", ".join(type(item).__name__ for item in content)
            raise UserError(f"{path} is a list of {found}; wanted {WANTED}")
        raw = _plain(path, content[0])
        if len(content) == 3:
            return "a list of 3 without EMA", step, {"raw": raw}, "raw"
        return "a list of 4 with EMA", step, {"raw": raw, "ema": _plain(path, content[3])}, "ema"
    if isinstance(content, dict) and content:
        weights = _plain(path, content)
        if _prefix(content):
            return "a bare state dict", None, {"raw": weights}, "raw"
        # The average has no "module." before its names; neither has a state dict that was saved without DataParallel.
        return "a bare state dict that does not say whether it is an average", None, {"raw": weights, "ema": weights}, "raw"
    what = f"a list of {len(content)}" if isinstance(content, list) else f"a {type(content).__name__}"
    raise UserError(f"{path} holds {what}; wanted {WANTED}")


def _plain(path: Path, weights: Any) -> dict[str, Tensor]:
    """A state dict without DataParallel's prefix. Raises UserError for anything that is not names and floating tensors."""
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{path} holds {'nothing' if weights == {} else type(weights).__name__} where weights belong; wanted {WANTED}")
    for name, tensor in weights.items():
        dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not isinstance(name, str) or not dense or not tensor.is_floating_point():
            found = f"{tensor.dtype} tensor" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"{path} holds a {found} under {str(name)[:60]!r} where weights belong; wanted {WANTED}")
    return {name.removeprefix(_prefix(weights)): tensor.detach() for name, tensor in weights.items()}


def _prefix(weights: Mapping[str, Any]) -> str:
    return PREFIX if all(name.startswith(PREFIX) for name in weights) else ""


def write(path: Path, weights: Mapping[str, Tensor], step: int) -> None:
    """A list of 3 as SalUn writes it, whole or not at all: what its `sample.py` reads. Adam's state is empty."""
    stored = io.BytesIO()
    torch.save([{f"{PREFIX}{name}": tensor for name, tensor in weights.items()}, {}, step], stored)
    files.write(path, stored.getvalue())
