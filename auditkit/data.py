"""Data sets, split by content: which split an image is in depends on its pixels alone.

Images are uint8 (N, C, H, W). The splits: `model` 50 % (training, unlearning and every attacker draw only from it),
`judges` 20 % (judges are fitted on it), `calibration` 10 % (their temperatures), `heldout` 20 % (what they are measured on).
Equal pixels land in the same split, so a duplicate can never leak from one into another.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from auditkit.errors import UserError, choose

SPLITS = {"model": 0.5, "judges": 0.7, "calibration": 0.8, "heldout": 1.0}  # upper ends of the hash's interval
# Digests of data sets of which every image has been at hand here, so far one: CIFAR-10's 60,000. A set with this digest has this name,
# wherever it was read from; one of this name with another digest is refused (torchvision_data.py).
PINNED = {"cifar10": "228c6ac1768efe62639f52f923b93a3871b523ba9ae51f864bf42e0dc8478e6e"}


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, C, H, W), labels int64 (N,), and the split of each image."""

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    split: np.ndarray
    sha256: str
    place: str = ""  # where it was read from, if that is no name: it enters no run

    @property
    def spec(self) -> str:
        """What load() takes to give this data set again, in any process and from any working directory."""
        return self.place or self.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def order(self) -> str | None:
        """The sentence about class names that are whole numbers in another order than the numbers'; None for all others."""
        names = self.classes
        if not all(name.isdecimal() for name in names) or [*names] == sorted(names, key=int):
            return None
        k = next(k for k, name in enumerate(sorted(names, key=int)) if name != names[k])
        return f"{self.name}: class names are numbers, sorted as text: label {k} is {names[k]!r}; a model trained on the numbers differs"

    def part(self, split: str, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images and labels of one split; of the classes in `keep` alone if given."""
        mask = torch.from_numpy(self.split == split)
        if keep is not None:
            mask &= torch.isin(self.labels, keep)
        return self.images[mask], self.labels[mask]

    def others(self, classes: tuple[int, ...]) -> Tensor:
        """The labels that are not in `classes`: the retained ones."""
        return torch.tensor([k for k in range(len(self.classes)) if k not in classes])

    def check_labels(self, classes: Iterable[int]) -> None:
        """Raises UserError unless every label is a class of this data set."""
        for k in classes:
            if not 0 <= k < len(self.classes):
                raise UserError(f"--class takes 0 to {len(self.classes) - 1} for {self.name}, got {k}")

    def check_classes(self, classes: tuple[int, ...]) -> None:
        """Raises UserError unless `classes` are distinct labels of this data set that leave one class to retain."""
        self.check_labels(classes)
        if not classes or len(set(classes)) != len(classes) or len(classes) >= len(self.classes):
            raise UserError(f"--class takes 1 to {len(self.classes) - 1} different classes, got {','.join(map(str, classes)) or 'none'}")


def to_model(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] to uint8, clamped and rounded to nearest; NaN is refused."""
    if not bool(torch.isfinite(images).all()):
        raise FloatingPointError("images hold NaN or infinity: the model has diverged")
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def load(name: str) -> Dataset:
    """The data set called `name` ("digits", or one of torchvision_data.py), or that of "folder:PATH" (folder_data.py) or
    "pack:PATH[,PATH]" (pack_data.py); read once in a process. Raises UserError with the nearest known name."""
    from auditkit import folder_data, pack_data, torchvision_data  # which import this module

    for prefix, read in ((folder_data.PREFIX, folder_data.load), (pack_data.PREFIX, pack_data.load)):
        if name.startswith(prefix):
            return read(name.removeprefix(prefix))
    known = ("digits", *torchvision_data.SETS)
    choose("data set", name, (*known, f"{folder_data.PREFIX}PATH", f"{pack_data.PREFIX}PATH"))
    return _digits() if name == "digits" else torchvision_data.load(name)


def ordered(name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], *, place: str = "") -> Dataset:
    """A data set in canonical order, by the SHA-256 of each image's pixels and then by label: the same images in any order, from any
    source, are the same data set with the same digest (docs/decisions/0008-canonical-order.md).

    `images` is uint8 (N, C, H, W), `labels` int64 (N,). It is called `name`, or by what its digest is pinned to; "pack" becomes
    "pack-" and the start of the digest.

    Raises:
        UserError: a class that a split has no image of.
    """
    images = np.ascontiguousarray(images)
    hashes = np.array([hashlib.sha256(image).digest() for image in images], dtype="S32")
    order = np.lexsort((labels, hashes))
    images, labels = images[order], labels[order].astype(np.int64)
    split = split_by_pixels(images)
    check_splits(classes, labels, split)
    digest = hashlib.sha256(repr((images.shape, classes)).encode())  # the same pixels under other names are another data set
    digest.update(images.data)
    digest.update(labels.data)
    sha = digest.hexdigest()
    known = {pinned: called for called, pinned in PINNED.items()}
    called = known.get(sha, f"{name}-{sha[:12]}" if place else name)
    return Dataset(called, torch.from_numpy(images), torch.from_numpy(labels), classes, split, sha, place)


@cache
def _digits() -> Dataset:
    """scikit-learn's 1,797 scanned digits, 8 x 8, 17 grey levels (UCI "Optical Recognition of Handwritten Digits")."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = raw.target.astype(np.int64)
    return Dataset(
        name="digits",
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        split=split_by_pixels(images),
        sha256=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )


def split_by_pixels(images: np.ndarray) -> np.ndarray:
    """The split of each image, from the SHA-256 of its pixels."""
    names, ends = list(SPLITS), np.array(list(SPLITS.values()))
    hashes = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") / 2**64 for image in images]
    return np.array(names)[np.searchsorted(ends, hashes, side="right")]


def check_splits(classes: tuple[str, ...], labels: np.ndarray, split: np.ndarray) -> None:
    """Raises UserError unless every class has an image in every split."""
    for k, name in enumerate(classes):
        for part in SPLITS:
            if not bool(((labels == k) & (split == part)).any()):
                n = int((labels == k).sum())
                raise UserError(
                    f"class {name!r} has {n} pictures and none of them is in the {part} split: about 50 of each class are needed"
                )
