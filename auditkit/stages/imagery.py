"""Images from elsewhere, and the page of pictures: what convinced which judge, disagreements first."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors.torch import load_file
from torch import Tensor

from auditkit import files, pictures
from auditkit.errors import UserError
from auditkit.results import sha256
from auditkit.stages.judging import Panel
from auditkit_evaluators.verdict import Verdict

MAX_IMAGES, MAX_SIDE, MAX_BYTES = 10**6, 4096, 64 * 2**30
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
COLUMNS = 16


def read(path: Path, shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """uint8 images (N, C, H, W) of a folder of pictures, an .npz or a .safetensors file, and the SHA-256 of their pixels.

    Arrays may be (N, C, H, W), (N, H, W, C) or (N, H, W). Nothing is resized or rescaled: that would change what is judged.

    Raises:
        UserError: nothing there, floats, another shape than `shape`, or too many images.
    """
    if path.is_dir():
        found = _folder(path, shape)
    elif path.suffix == ".npz":
        found = _arrays(path, shape)
    elif path.suffix == ".safetensors":
        tensors = load_file(files.check_safetensors(path))
        found = _fit(path, {name: t.numpy() for name, t in tensors.items() if t.dtype != torch.bfloat16}, shape)
    else:
        raise UserError(f"--images takes a folder of pictures, an .npz or a .safetensors file; {path} is none of them")
    return found, sha256(found.numpy().tobytes())


def _folder(path: Path, shape: tuple[int, int, int]) -> Tensor:
    names = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    if not names:
        raise UserError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
    _count(len(names))
    return torch.from_numpy(np.stack([_picture(files.regular(p), shape) for p in names]))


def _picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as opened:
            if opened.size != (width, height) or max(opened.size) > MAX_SIDE:
                raise UserError(f"{path} is {opened.size[0]} x {opened.size[1]} pixels, wanted {width} x {height}: nothing is resized here")
            pixels = np.asarray(opened.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read: {error}") from error
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _arrays(path: Path, shape: tuple[int, int, int]) -> Tensor:
    try:
        with np.load(files.regular(path), allow_pickle=False) as pack:
            return _fit(path, {name: pack[name] for name in pack.files}, shape)
    except UserError:
        raise
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise UserError(f"{path} is no .npz of plain arrays: {error}") from error


def _fit(path: Path, arrays: dict[str, np.ndarray], shape: tuple[int, int, int]) -> Tensor:
    """The one array of images in a file: called "images", or the only one."""
    names = ["images"] if "images" in arrays else [name for name, a in arrays.items() if a.ndim >= 3]
    if len(names) != 1:
        raise UserError(f'{path} must hold one array of images, called "images"; it has {", ".join(arrays) or "none"}')
    found = arrays[names[0]]
    if found.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8 0..255, got {found.dtype}: convert them as your generator saves them")
    channels, height, width = shape
    if found.ndim == 3 and channels == 1:
        found = found[:, None]
    if found.ndim == 4 and found.shape[1:] == (height, width, channels) and (height, width, channels) != shape:
        found = found.transpose(0, 3, 1, 2)
    if found.ndim != 4 or found.shape[1:] != shape:
        raise UserError(f"{path}: wanted images (N, {channels}, {height}, {width}), got {arrays[names[0]].shape}: nothing is resized here")
    _count(len(found))
    return torch.from_numpy(np.ascontiguousarray(found))


def _count(n: int) -> None:
    if not 1 <= n <= MAX_IMAGES:
        raise UserError(f"--images takes 1 to {MAX_IMAGES} images, got {n}")


def content(path: str | None) -> str | None:
    """What stands for a file or a folder of weights in a request: the hash of its files. None stays None."""
    if path is None:
        return None
    here = Path(path)
    found = sorted(here.glob("*.safetensors")) if here.is_dir() else [here]
    return files.sha256_of([files.regular(p) for p in found])


def picture(panel: Panel, images: Tensor, asked: int, verdict: Verdict) -> bytes:
    """A PNG page: the images about which the judges disagree most, then for each judge the most and the least convincing ones."""
    votes = panel.each(lambda judge: judge.judge(images))
    closed = [v.probs[:, asked] for v in votes]
    rows = [("judges disagree", images[_first(np.std(closed, axis=0))])]
    for judge, v, scores in zip(panel.judges, votes, closed, strict=True):
        taken = int((v.answered == asked).sum())
        rows.append((f"{judge.name}: {taken} accepted\nmost convincing", images[_first(scores)]))
        rows.append(("least", images[_first(-scores)]))
    return pictures.grid(rows, title=f"{verdict.word}: {verdict.n} images asked for {panel.dataset.classes[asked]!r}")


def _first(scores: np.ndarray) -> Tensor:
    return torch.from_numpy(np.argsort(-scores, kind="stable")[:COLUMNS].copy())
