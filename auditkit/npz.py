"""Foreign .npz archives as plain arrays: nothing is unpickled, and sizes are checked before anything is unpacked."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from auditkit import decoding, files
from auditkit.errors import UserError

# zipfile raises NotImplementedError for a compression that it does not know, RuntimeError for an encrypted entry.
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, LookupError, MemoryError, NotImplementedError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, TypeError, OverflowError),  # numpy reads an array's header as a Python literal
)


def sizes(path: Path) -> dict[str, int]:
    """The bytes of each array in an .npz, by its name, as its own header and the archive agree.

    Raises:
        UserError: no regular file, no archive of plain arrays, or more bytes than are read here.
    """
    files.regular(path)
    try:
        found = _sizes(path)
    except UNREADABLE as error:
        raise UserError(f"{path} is no .npz of plain arrays: {_why(error)}") from error
    most = min(decoding.MAX_BYTES, decoding.memory() // 2)  # a zip of 60 MB may unpack to 60 GB
    if sum(found.values()) > most:
        raise UserError(f"{path} holds {sum(found.values())} bytes of arrays, at most {most / 2**30:.1f} GiB are read here")
    return found


def arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays called `names`, or all of them. Raises UserError as `sizes`."""
    there = sizes(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in (there if names is None else names)}
    except UNREADABLE as error:
        raise UserError(f"{path} is no .npz of plain arrays: {_why(error)}") from error


def _sizes(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if not entry.filename.endswith(".npy") or name in found:
                raise UserError(f"{path} holds {entry.filename!r}, wanted arrays alone and each once, as numpy.savez writes them")
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(file)
                if dtype.hasobject:
                    raise UserError(f"{path} holds Python objects in {entry.filename!r}: those are never opened; save plain arrays")
                if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
                    raise ValueError(f"{entry.filename} is not as long as its header says")
            found[name] = entry.file_size
    return found


def _why(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
