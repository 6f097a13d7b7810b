"""Data sets from packs of arrays: .npz files, several of them one after another, in one of two layouts.

Plain: `images` uint8 (N, C, H, W), (N, H, W, C) or (N, H, W) with 1 or 3 channels, `labels` whole numbers (N,), and optionally
`classes`, the names. Encoded: `blob` uint8 of picture files end to end, `offset` (N + 1,), `label` (N,) and `classes`; picture i is
`blob[offset[i]:offset[i+1]]` (decoding.py). Nothing is unpickled, and sizes are checked before anything is read.
"""

from functools import cache
from pathlib import Path

import numpy as np

from auditkit import decoding, files, npz
from auditkit.data import Dataset, ordered
from auditkit.errors import UserError

PREFIX = "pack:"
PLAIN, ENCODED = ("images", "labels"), ("blob", "offset", "label")
MAX_CLASSES = 10**4


def load(text: str) -> Dataset:
    """The data set in the packs `text`, "PATH" or "PATH,PATH", in canonical order; read once in a process.

    Raises:
        UserError: no such file, a symbolic link, no pack, labels without a name, packs that do not fit each other, too much of it, or a
            class that a split has no image of.
    """
    paths = [Path(part) for part in text.split(",") if part.strip()]
    if not paths or "\0" in text:
        raise UserError(f"--data {PREFIX}{text} names no file: give {PREFIX}PATH[,PATH...] with .npz files of images and labels")
    for path in paths:
        files.regular(path)
    return _load(tuple(path.resolve() for path in paths))


@cache
def _load(paths: tuple[Path, ...]) -> Dataset:
    packs = [read(path) for path in paths]
    images, _, classes = packs[0]
    for path, (other, _, names) in zip(paths, packs, strict=True):
        if other.shape[1:] != images.shape[1:] or names != classes:
            raise UserError(
                f"{path} holds images {other.shape[1:]} and classes {_short(names)}, {paths[0]} {images.shape[1:]} and {_short(classes)}"
            )
    if sum(pack[0].nbytes for pack in packs) > decoding.MAX_BYTES:
        raise UserError(f"{paths[0]} and the others hold more than {decoding.MAX_BYTES >> 30} GiB of images together")
    labels = np.concatenate([pack[1] for pack in packs])
    classes = classes or tuple(map(str, range(int(labels.max()) + 1)))
    place = PREFIX + ",".join(map(str, paths))
    return ordered("pack", np.concatenate([pack[0] for pack in packs]), labels, classes, place=place)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images uint8 (N, C, H, W), labels int64 (N,) and class names (none where the pack has none) of one pack, in its own order."""
    sizes = npz.sizes(path)
    layout = ENCODED if "blob" in sizes else PLAIN
    missing = [name for name in layout if name not in sizes]
    if missing:
        raise UserError(f"{path} has no {' and no '.join(missing)}: a pack holds images and labels, or blob, offset, label and classes")
    found = npz.arrays(path, [name for name in (*layout, "classes") if name in sizes])
    images = _decoded(path, found["blob"], found["offset"]) if layout is ENCODED else _plain(path, found["images"])
    classes = _names(path, found["classes"]) if "classes" in found else ()
    return images, _labels(path, found[layout[-1]], len(images), classes), classes


def _plain(path: Path, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8 0..255, got {images.dtype}: convert them first")
    found = images[:, None] if images.ndim == 3 else images
    if found.ndim == 4 and found.shape[1] not in (1, 3) and found.shape[3] in (1, 3):
        found = found.transpose(0, 3, 1, 2)
    if found.ndim != 4 or found.shape[1] not in (1, 3) or not all(0 < side <= decoding.MAX_SIDE for side in found.shape[2:]):
        raise UserError(f"{path}: wanted images (N, C, H, W), (N, H, W, C) or (N, H, W) with 1 or 3 channels, got {images.shape}")
    _count(path, len(found))
    return np.ascontiguousarray(found)


def _decoded(path: Path, blob: np.ndarray, offset: np.ndarray) -> np.ndarray:
    if blob.dtype != np.uint8 or blob.ndim != 1 or offset.ndim != 1 or offset.dtype.kind not in "iu":
        raise UserError(f"{path}: wanted blob uint8 (B,) and offset of whole numbers (N + 1,), got {blob.dtype} and {offset.dtype}")
    _count(path, len(offset) - 1)
    ends = offset.astype(np.int64)
    if ends[0] < 0 or ends[-1] > len(blob) or bool((np.diff(ends) <= 0).any()):
        raise UserError(f"{path}: offset must rise from 0 to the {len(blob)} bytes of blob, it goes from {ends[0]} to {ends[-1]}")
    return decoding.stack([f"{path} picture {i}" for i in range(len(ends) - 1)], lambda i: blob[ends[i] : ends[i + 1]].tobytes())


def _names(path: Path, classes: np.ndarray) -> tuple[str, ...]:
    if classes.ndim != 1 or classes.dtype.kind not in "SU" or not 2 <= len(classes) <= MAX_CLASSES:
        raise UserError(f"{path}: classes must be 2 to {MAX_CLASSES} names (K,), got {classes.dtype} {classes.shape}")
    names = tuple(c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in classes.tolist())
    if len(set(names)) != len(names) or not all(name and name.isprintable() for name in names):
        raise UserError(f"{path}: classes must be different printable names, got {_short(names)!r}")
    return names


def _labels(path: Path, labels: np.ndarray, n: int, classes: tuple[str, ...]) -> np.ndarray:
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: wanted a whole number for each of {n} images as label, got {labels.dtype} {labels.shape}")
    most = len(classes) if classes else MAX_CLASSES
    if int(labels.min()) < 0 or int(labels.max()) >= most:
        raise UserError(f"{path}: labels must lie in 0 to {most - 1}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def _count(path: Path, n: int) -> None:
    if not 1 <= n <= decoding.MAX_IMAGES:
        raise UserError(f"{path} holds {n} images, 1 to {decoding.MAX_IMAGES} are read")


def _short(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "") or "without names"
