"""The data sets that torchvision fetches: all labelled images of each, training and test part together, in canonical order.

auditkit splits by pixels (data.py), so the parts of the publishers are not kept apart: `cifar10` and `cifar100` are 60,000 images,
`mnist` and `fashion-mnist` 70,000 of 28 x 28, `stl10` its 13,000 labelled ones in their own 96 x 96 (publications shrink them to 64 x 64:
nothing is resized here). Files lie where torchvision puts them, in AUDITKIT_DATA or ~/.cache/auditkit/data; its MD5 sums are checked before
anything of CIFAR is unpickled, and for `cifar10` the digest of all pixels and labels is pinned as well (data.PINNED).
"""

import contextlib
import http.client
import os
import tarfile
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.data import PINNED, Dataset, ordered
from auditkit.errors import UserError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FASHION = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True)
class Known:
    """A class of torchvision.datasets, the folder it reads, what a download weighs, its parts, and the names of its labels (none: those in
    its own, checked, files)."""

    kind: str
    folder: str
    megabytes: int
    parts: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
    classes: tuple[str, ...] = ()


SETS = {
    "cifar10": Known("CIFAR10", "cifar-10-batches-py", 163),
    "cifar100": Known("CIFAR100", "cifar-100-python", 161),
    "stl10": Known("STL10", "stl10_binary", 2519, ({"split": "train"}, {"split": "test"}), STL10),
    "mnist": Known("MNIST", "MNIST", 11, classes=DIGITS),
    "fashion-mnist": Known("FashionMNIST", "FashionMNIST", 29, classes=FASHION),
}


def root() -> Path:
    """The folder that holds all downloads: AUDITKIT_DATA or ~/.cache/auditkit/data."""
    return Path(os.environ.get("AUDITKIT_DATA") or Path.home() / ".cache" / "auditkit" / "data").expanduser().resolve()


@cache
def load(name: str) -> Dataset:
    """The data set `name` of SETS, images uint8 (N, C, H, W), downloaded if its folder is not there; read once in a process.

    Raises:
        UserError: the download failed, or the files are not the published ones.
    """
    known, where = SETS[name], root()
    if not (where / known.folder).exists():
        _download(name, known, where)
    _refuse_foreign(where / known.folder)
    try:
        found = _read(known, where)
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError, LookupError, TypeError) as error:
        raise UserError(
            f"the files in {where / known.folder} are not those of {name} ({_line(error)}): delete it, and run again"
        ) from error
    dataset = ordered(name, *found)
    if PINNED.get(name, dataset.sha256) != dataset.sha256:
        raise UserError(f"{where / known.folder} holds other images than the published {name}: its digest is {dataset.sha256}")
    return dataset


def _download(name: str, known: Known, where: Path) -> None:
    """Fetches into a folder beside the final one and moves what was checked: a kill leaves nothing that could be read."""
    made = not where.exists()
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=where) as temporary:
            _open(known, Path(temporary), known.parts[0], download=True)
            try:
                os.rename(Path(temporary) / known.folder, where / known.folder)
            except OSError:
                if not (where / known.folder).exists():  # else another process was faster
                    raise
    except (OSError, RuntimeError, EOFError, ValueError, http.client.HTTPException, tarfile.TarError) as error:
        if made:
            with contextlib.suppress(OSError):
                where.rmdir()
        raise UserError(
            f"--data {name} needs a download of {known.megabytes} MB into {where}, which failed: {_line(error)}; "
            f"or put torchvision's folder {known.folder} there (AUDITKIT_DATA names another place)"
        ) from error


def _open(known: Known, where: Path, part: dict[str, Any], *, download: bool = False) -> Any:
    import torchvision.datasets  # type: ignore[import-untyped]  # takes a second, and the names above need none of it

    with warnings.catch_warnings():  # of NumPy about CIFAR's old arrays, of tarfile about archives whose MD5 was checked
        warnings.simplefilter("ignore")
        return getattr(torchvision.datasets, known.kind)(str(where), **part, download=download)


def _read(known: Known, where: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    parts = [_open(known, where, part) for part in known.parts]
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.labels if known.kind == "STL10" else part.targets) for part in parts]).astype(np.int64)
    if images.ndim == 3:
        images = images[:, None]
    elif known.kind != "STL10":  # which has its channels first already
        images = images.transpose(0, 3, 1, 2)
    classes = known.classes or tuple(map(str, parts[0].classes))
    if images.dtype != np.uint8 or len(labels) != len(images) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(f"{len(images)} images of {images.dtype}, {len(labels)} labels up to {labels.max()}")
    return images, labels, classes


def _refuse_foreign(folder: Path) -> None:
    """Links lead elsewhere, and a `processed` folder of old versions would be unpickled in place of the checked files."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link; give the file itself, or name its folder in AUDITKIT_DATA")
        if path.name == "processed":
            raise UserError(f"{path} holds pickles of an old torchvision, which are never opened: delete it")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
