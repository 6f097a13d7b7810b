"""Data sets from folders of pictures: one subfolder for each class, its name the class's, its pictures all of one size (decoding.py).

No path enters a run: the set is named by its content. Its order is that of the names, which existing runs were made in.
"""

import hashlib
import logging
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch

from auditkit import decoding, files
from auditkit.data import Dataset, check_splits, split_by_pixels
from auditkit.errors import UserError

log = logging.getLogger("auditkit")
PREFIX = "folder:"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


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
    if len(paths) > decoding.MAX_IMAGES:
        raise UserError(f"{folder} holds {len(paths)} pictures, at most {decoding.MAX_IMAGES} are read")
    images = decoding.stack([str(path) for path in paths], lambda i: paths[i].read_bytes())
    labels = np.repeat(np.arange(len(found), dtype=np.int64), [len(group) for group in found.values()])
    split = split_by_pixels(images)
    check_splits(tuple(found), labels, split)
    digest = hashlib.sha256(repr((images.shape, tuple(found))).encode())  # the same pixels under other names are another data set
    digest.update(images.data)
    digest.update(labels.data)
    sha = digest.hexdigest()
    made = Dataset(
        name=f"folder-{sha[:12]}",
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=tuple(found),
        split=split,
        sha256=sha,
        place=f"{PREFIX}{folder}",
    )
    if made.order:
        log.warning(made.order)
    return made


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
