"""Reading what this process did not write, and writing so that a kill never leaves half a file."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from auditkit.errors import UserError

MAX_HEADER = 16 * 2**20  # bytes of a safetensors header
MAX_JSON = 64 * 2**20


def regular(path: Path, missing: str | None = None) -> Path:
    """`path`, if it is a regular file and no symlink. Raises UserError with `missing` when it is not there."""
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; give the file itself")
    if not path.is_file():
        raise UserError(missing or f"{path} does not exist")
    return path


def read_json(path: Path, missing: str | None = None) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError when it is missing, too large or no JSON object."""
    if regular(path, missing).stat().st_size > MAX_JSON:
        raise UserError(f"{path} is larger than {MAX_JSON >> 20} MiB; it cannot be one of ours")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__}, wanted a JSON object")
    return value


def check_safetensors(path: Path) -> Path:
    """`path`, if its header is that of a whole safetensors file. Raises UserError for a pickle, a cut or an oversized file."""
    safetensors_header(path)
    return path


def safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """What a whole safetensors file says of each tensor, by name: its dtype, shape and place. Raises as `check_safetensors`."""
    size = regular(path, f"{path} does not exist: weights must be a safetensors file").stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > MAX_HEADER or length > size - 8:
            if head[:2] == b"PK" or head[:1] == b"\x80":  # a zip as torch.save writes it, or a bare pickle
                raise UserError(f"{path} is a pickle, wanted safetensors: pickles can run code and are never opened")
            raise UserError(f"{path} is truncated or no safetensors file: {size} bytes, its header claims {length}")
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} has a broken safetensors header: {error}") from error
    if not isinstance(end, int) or 8 + length + end != size:
        raise UserError(f"{path} is truncated or altered: {size} bytes, where its header speaks of {end} after the first {8 + length}")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def write(path: Path, data: bytes | str) -> None:
    """Writes a file whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # Ctrl-C as well
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut (where the system can)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of files, in the order given."""
    return joined((path.name, sha256_file(path)) for path in paths)


def joined(hashes: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over (name, SHA-256) of files, in the order given: `sha256_of` where the files' hashes are known."""
    digest = hashlib.sha256()
    for name, value in hashes:
        digest.update(name.encode() + b"\0" + bytes.fromhex(value))
    return digest.hexdigest()


@contextlib.contextmanager
def unchanged(paths: list[Path]) -> Iterator[str]:
    """`sha256_of` files that are read, and copied, inside: the hash is of what was read.

    Raises:
        UserError: a file changed in the meantime.
    """
    before = sha256_of(paths)
    yield before
    if sha256_of(paths) != before:
        raise UserError(f"{paths[0]} changed while it was read: run the command again when nothing writes to it")
