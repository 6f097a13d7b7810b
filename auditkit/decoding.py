"""Pictures as arrays: grey ones (modes 1 and L) stay grey, and as soon as one of a set is in colour, all have three channels, the grey ones
repeated. Nothing is resized, rotated or blended: what would need that is refused by name.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from auditkit.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # nothing else that Pillow can read, whatever the file is called
ANIMATED = ("PNG", "WEBP")  # a JPEG with several pictures (MPO) holds one photograph and its previews
GREY, COLOUR = ("1", "L"), ("RGB", "P", "YCbCr")
MAX_IMAGES, MAX_SIDE, MAX_BYTES = 10**6, 4096, 64 * 2**30


def stack(names: Sequence[str], read: Callable[[int], bytes]) -> np.ndarray:
    """uint8 (N, C, H, W) of encoded pictures, all of the first one's size: `read(i)` gives the file called `names[i]` in messages.

    Raises:
        UserError: a picture that cannot be read or does not fit the others, or more than MAX_BYTES of pixels.
    """
    images: list[np.ndarray] = []
    for i, name in enumerate(names):
        image = pixels(name, read(i))
        first = images[0] if images else image
        if image.shape[:2] != first.shape[:2]:
            size, wanted = ("x".join(map(str, a.shape[1::-1])) for a in (image, first))
            raise UserError(f"{name} is {size} pixels, {names[0]} is {wanted}: a data set has one size, and nothing is resized here")
        if image.nbytes * len(names) > MAX_BYTES:
            raise UserError(f"{name} is one of {len(names)} pictures of {image.nbytes} bytes, at most {MAX_BYTES >> 30} GiB are read")
        images.append(image)
    if any(image.ndim == 3 for image in images):
        colour = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
        return np.ascontiguousarray(np.stack(colour).transpose(0, 3, 1, 2))
    return np.stack(images)[:, None]


def size(name: str, encoded: bytes) -> tuple[int, int]:
    """(width, height) of a picture, from its header alone. Raises UserError with its `name`."""
    with _opened(name, encoded) as opened:
        return opened.size


def pixels(name: str, encoded: bytes) -> np.ndarray:
    """uint8 (H, W) of a grey picture or (H, W, 3) of one in colour. Raises UserError with its `name`."""
    with _opened(name, encoded) as opened:
        frames = getattr(opened, "n_frames", 1)
        if opened.format in ANIMATED and frames > 1:
            raise UserError(f"{name} is animated ({frames} frames), wanted one picture: save the frame that is meant")
        if opened.mode not in GREY + COLOUR or "transparency" in opened.info:
            mode = f"{opened.mode}, with transparency" if "transparency" in opened.info else opened.mode
            raise UserError(f"{name} is of mode {mode}, wanted 8-bit grey or colour without transparency: convert it first")
        return np.asarray(opened.convert("L" if opened.mode in GREY else "RGB"))


@contextlib.contextmanager
def _opened(name: str, encoded: bytes) -> Iterator[Image.Image]:
    """A picture of one of four formats, of no more than MAX_SIDE a side; every way to fail is a UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(encoded), formats=FORMATS)
        with opened:
            if max(opened.size) > MAX_SIDE:
                raise UserError(f"{name} is {opened.size[0]} x {opened.size[1]} pixels, at most {MAX_SIDE} a side are read")
            yield opened
    except UserError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise UserError(f"{name} is no picture that can be read: {type(error).__name__}") from error


def memory() -> int:
    """Bytes of memory of this machine; what cannot be asked is no limit."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 2**63
