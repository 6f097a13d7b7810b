"""Data sets from folders of pictures: one subfolder for each class, its name the class's, its pictures all of one size.

Grey pictures (modes 1 and L) make a data set of one channel; as soon as one of them is in colour, all have three, the grey ones repeated.
Nothing is resized, rotated or blended: what would need that is refused by name. No path enters a run: the set is named by its content.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from auditkit import files
from auditkit.data import SPLITS, Dataset, split_by_pixels
from auditkit.errors import UserError

PREFIX = "folder:"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # nothing else that Pillow can read, whatever the file is called
GREY, COLOUR = ("1", "L"), ("RGB", "P", "YCbCr")
MAX_IMAGES, MAX_SIDE, MAX_BYTES = 10**6, 4096, 64 * 2**30


def load(text: str) -> Dataset:
    """The data set in the folder `text`; read once in a process.

    Raises:
        UserError: no such folder, a class without pictures or a single class, a picture that cannot be read or does not fit the
            others, anything else among the pictures, symbolic links, too much of it, or a class that a split has no image of.
    """
    if not text.strip() or not os.path.isdir(text):  # unlike Path's it takes any text, however long
        raise UserError(f"--data {PREFIX}{text} names no folder: give {PREFIX}PATH with one subfolder of pictures for each class")
    return _load(Path(text).resolve())


@cache
def _load(folder: Path) -> Dataset:
    found = {entry.name: _pictures(entry) for entry in _entries(folder) if _is_class(entry)}
    if len(found) < 2:
        raise UserError(f"{folder} holds {len(found)} class folders, wanted one subfolder of pictures for each of at least two classes")
    paths = [path for group in found.values() for path in group]
    if len(paths) > MAX_IMAGES:
        raise UserError(f"{folder} holds {len(paths)} pictures, at most {MAX_IMAGES} are read")
    images = _stack(paths)
    labels = np.repeat(np.arange(len(found), dtype=np.int64), [len(group) for group in found.values()])
    split = split_by_pixels(images)
    _check_splits(tuple(found), labels, split)
    digest = hashlib.sha256(repr((images.shape, tuple(found))).encode())  # the same pixels under other names are another data set
    digest.update(images.data)
    digest.update(labels.data)
    sha = digest.hexdigest()
    return Dataset(
        name=f"folder-{sha[:12]}",
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=tuple(found),
        split=split,
        sha256=sha,
        place=f"{PREFIX}{folder}",
    )


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden entries belong to the system."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)


def _is_class(entry: Path) -> bool:
    """Whether an entry beside the classes is one: other files may lie there, pictures without a class may not."""
    if entry.suffix.lower() in SUFFIXES and not entry.is_dir():
        raise UserError(f"{entry} lies beside the class folders: which class is it? Move it into a subfolder")
    if entry.is_dir() and not entry.name.isprintable():
        raise UserError(f"{entry.parent} holds a class folder with an unprintable name, {entry.name!r}: rename it")
    return entry.is_dir()


def _pictures(folder: Path) -> list[Path]:
    if folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link; give the folder itself")
    found = _entries(folder)
    for path in found:
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} is no picture ({', '.join(SUFFIXES)}): move it out of the class's folder")
    if not found:
        raise UserError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}): every class needs some")
    return [files.regular(path) for path in found]


def _stack(paths: Sequence[Path]) -> np.ndarray:
    """uint8 (N, C, H, W) of every picture, all of the first one's size."""
    images: list[np.ndarray] = []
    for path in paths:
        pixels = _pixels(path)
        first = images[0] if images else pixels
        if pixels.shape[:2] != first.shape[:2]:
            size, wanted = ("x".join(map(str, a.shape[1::-1])) for a in (pixels, first))
            raise UserError(f"{path} is {size} pixels, {paths[0]} is {wanted}: a data set has one size, and nothing is resized here")
        if pixels.nbytes * len(paths) > MAX_BYTES:
            raise UserError(
                f"{path.parent.parent} has {len(paths)} pictures of {pixels.nbytes} bytes, at most {MAX_BYTES >> 30} GiB are read"
            )
        images.append(pixels)
    if any(image.ndim == 3 for image in images):
        colour = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
        return np.ascontiguousarray(np.stack(colour).transpose(0, 3, 1, 2))
    return np.stack(images)[:, None]


def _pixels(path: Path) -> np.ndarray:
    """uint8 (H, W) of a grey picture or (H, W, 3) of one in colour."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS)
        with opened:
            if max(opened.size) > MAX_SIDE:
                raise UserError(f"{path} is {opened.size[0]} x {opened.size[1]} pixels, at most {MAX_SIDE} a side are read")
            if opened.mode not in GREY + COLOUR or "transparency" in opened.info:
                mode = f"{opened.mode}, with transparency" if "transparency" in opened.info else opened.mode
                raise UserError(f"{path} is of mode {mode}, wanted 8-bit grey or colour without transparency: convert it first")
            return np.asarray(opened.convert("L" if opened.mode in GREY else "RGB"))
    except UserError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise UserError(f"{path} is no picture that can be read: {type(error).__name__}") from error


def _check_splits(classes: tuple[str, ...], labels: np.ndarray, split: np.ndarray) -> None:
    for k, name in enumerate(classes):
        for part in SPLITS:
            if not bool(((labels == k) & (split == part)).any()):
                n = int((labels == k).sum())
                raise UserError(
                    f"class {name!r} has {n} pictures and none of them is in the {part} split: about 50 of each class are needed"
                )
