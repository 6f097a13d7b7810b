"""Images that another generator made: a folder of pictures, an .npz or a .safetensors file, and what the file says about them."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from auditkit import decoding, files, npz
from auditkit.errors import UserError
from auditkit.results import sha256

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
LABELS = ("labels", "label", "arr_1", "y", "classes", "targets")  # arr_1: guided-diffusion's sample files
TYPES = ("U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64")  # of safetensors: what images and labels may be stored as
SHOWN = 3  # names in a message
SEVERAL = 50  # images of each label that are looked at


@dataclass(frozen=True)
class Given:
    """`images` uint8 (N, C, H, W), the SHA-256 of their pixels, sentences on what was taken and what was left out, and of a file with
    labels up to 50 images of each label."""

    images: Tensor
    digest: str
    notes: tuple[str, ...]
    by_label: dict[int, Tensor]


def read(path: Path, shape: tuple[int, int, int], asked: int, classes: int) -> Given:
    """The images at `path` that were asked to show class `asked` of so many `classes`; of shape (C, H, W).

    Arrays may be (N, C, H, W), (N, H, W, C) or (N, H, W), uint8. Labels beside them, a whole number for each image, select the images
    that were asked for the class. Nothing is resized or rescaled: that would change what is judged.

    Raises:
        UserError: nothing there, floats, another shape, too many images, something beside them that is not understood, or labels among
            which the class is missing.
    """
    by_label: dict[int, Tensor] = {}
    if path.is_dir():
        found, notes = _folder(path, shape)
    elif path.suffix in (".npz", ".safetensors"):
        arrays = npz.arrays(path) if path.suffix == ".npz" else _tensors(path)
        images, labels, called = _parts(path, arrays, shape, classes)
        found, notes = images, ()
        if labels is not None:
            by_label = {int(k): torch.from_numpy(images[labels == k][:SEVERAL]) for k in np.unique(labels)}
            found, notes = _asked(path, images, labels, called, asked)
    else:
        raise UserError(f"--images takes a folder of pictures, an .npz or a .safetensors file; {path} is none of them")
    return Given(torch.from_numpy(found), sha256(found.tobytes()), notes, by_label)


def again(images: Tensor, path: Path) -> Tensor:
    """What `read` makes of `images` uint8 (N, C, H, W) that are written as those at `path`: as pictures of that format, or as an array."""
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    with tempfile.TemporaryDirectory() as place:
        there = Path(place) / ("folder" if path.is_dir() else path.name)
        if path.is_dir():
            there.mkdir()
            suffix = next(p.suffix for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            for k, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(image[..., 0] if shape[0] == 1 else image).save(there / f"{k:06}{suffix}")
        elif path.suffix == ".npz":
            np.savez(there, images=images.numpy())
        else:
            save_file({"images": images.numpy()}, there)
        return read(there, shape, 0, 1).images


def _folder(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """By the reader that `--data folder:` has (decoding.py). Hidden files belong to the system; anything else that is no picture is not."""
    entries = sorted(path.iterdir())
    hidden = [p for p in entries if p.name.startswith(".")]
    pictures = [p for p in entries if p not in hidden and p.suffix.lower() in SUFFIXES and not p.is_dir()]
    others = Counter("folder" if p.is_dir() else p.suffix or p.name for p in entries if p not in hidden and p not in pictures)
    if others:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items()))
        raise UserError(f"{path} holds {kinds} beside {len(pictures)} pictures ({', '.join(SUFFIXES)}): move out what is not to be judged")
    if not pictures:
        raise UserError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
    _count(len(pictures))
    found = decoding.stack([str(p) for p in pictures], lambda i: _encoded(pictures[i], shape))
    if shape[0] == 1 and found.shape[1] == 3:
        coloured = [p for p, image in zip(pictures, found, strict=True) if (image != image[:1]).any()]
        if coloured:
            raise UserError(f"{_some(coloured)} in colour, and the data set is grey: convert them as your generator's images are meant")
        found = np.ascontiguousarray(found[:, :1])
    if shape[0] == 3 and found.shape[1] == 1:
        found = np.repeat(found, 3, axis=1)
    notes = (f"{len(hidden)} hidden files were left out ({_names(hidden)})",) if hidden else ()
    return _fitting(path, found, shape), notes


def _encoded(path: Path, shape: tuple[int, int, int]) -> bytes:
    encoded = files.regular(path).read_bytes()
    width, height = decoding.size(str(path), encoded)
    if (height, width) != shape[1:]:
        raise UserError(f"{path} is {width} x {height} pixels, wanted {shape[2]} x {shape[1]}: nothing is resized here; move it out")
    return encoded


def _tensors(path: Path) -> dict[str, np.ndarray]:
    header = files.safetensors_header(path)
    for name, entry in header.items():
        if entry.get("dtype") not in TYPES:
            raise UserError(f"{path} holds {name!r} of {entry.get('dtype')}, wanted images uint8 0..255 and whole numbers as labels")
    try:
        return {name: np.array(array) for name, array in load_file(path).items()}
    except (SafetensorError, ValueError, TypeError, MemoryError, OSError) as error:
        raise UserError(f"{path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def _parts(
    path: Path, arrays: dict[str, np.ndarray], shape: tuple[int, int, int], classes: int
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The one array of images in a file, and the labels beside it with their name; no labels where it holds images alone."""
    several = [name for name, a in arrays.items() if a.ndim >= 3]
    if len(several) != 1:
        held = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()) or "none"
        raise UserError(f"{path} must hold one array of images of three axes or four, it holds {held}")
    images = _fitting(path, arrays[several[0]], shape)
    _count(len(images))
    beside = {name: a for name, a in arrays.items() if name != several[0]}
    if not beside:
        return images, None, ""
    called, given = next(iter(beside.items()))
    labels = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if len(beside) > 1 or called not in LABELS or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        held = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in beside.items())
        raise UserError(
            f"{path} holds {held} beside {len(images)} images: wanted nothing, or labels, a whole number for each image, "
            f"called {', '.join(LABELS)}; leave the rest out"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{path}: {called} goes from {labels.min()} to {labels.max()}, and the data set has classes 0 to {classes - 1}")
    return images, labels, called


def _asked(path: Path, images: np.ndarray, labels: np.ndarray, called: str, asked: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The images that are labelled `asked`, and the sentence about the others."""
    wanted = labels == asked
    if not wanted.any():
        held = ", ".join(map(str, np.unique(labels)[: 2 * SHOWN]))
        raise UserError(f"{path}: none of its {len(images)} images is labelled {asked}, the class asked for; its {called} are {held}")
    if wanted.all():
        return images, ()
    note = f"{wanted.sum()} of {len(images)} images are labelled {asked} ({called}); the others were left out"
    return np.ascontiguousarray(images[wanted]), (note,)


def _fitting(path: Path, given: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """`given` as (N, C, H, W). Raises UserError for another type or shape."""
    if given.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8 0..255, got {given.dtype}: convert them as your generator saves them")
    channels, height, width = shape
    found = given[:, None] if given.ndim == 3 and channels == 1 else given
    if found.ndim == 4 and found.shape[1:] == (height, width, channels) and (height, width, channels) != shape:
        found = found.transpose(0, 3, 1, 2)
    if found.ndim != 4 or found.shape[1:] != shape:
        raise UserError(f"{path}: wanted images (N, {channels}, {height}, {width}), got {given.shape}: nothing is resized here")
    return np.ascontiguousarray(found)


def _count(n: int) -> None:
    if not 1 <= n <= decoding.MAX_IMAGES:
        raise UserError(f"--images takes 1 to {decoding.MAX_IMAGES} images, got {n}")


def _some(paths: list[Path]) -> str:
    return f"{_names(paths)} {'is' if len(paths) == 1 else 'are'}"


def _names(paths: list[Path]) -> str:
    return ", ".join(p.name for p in paths[:SHOWN]) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
