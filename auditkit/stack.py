"""Images that arrive in batches, written straight into the file that will hold them: memory does not grow with their number.

The file is a safetensors file of uint8 images from its first byte on, header and size known in advance. Until it is finished it lies beside
its checkpoint and is no result.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
from torch import Tensor

Layout = dict[str, tuple[int, ...]]  # name to (N, C, H, W)


class Stack:
    """The file at `path`, made anew unless it is a whole one of this layout: what was put before a kill is still there."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        header, offsets = _header(layout)
        size = len(header) + sum(math.prod(shape) for shape in layout.values())
        self.resumed = path.is_file() and not path.is_symlink() and path.stat().st_size == size and _starts_with(path, header)
        if not self.resumed:
            with path.open("wb") as file:
                file.write(header)
                file.flush()
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a bus error on the way
                file.truncate(size)
        self._maps = {
            name: np.memmap(path, np.uint8, "r+", len(header) + offset, layout[name]) for name, offset in offsets.items() if layout[name][0]
        }

    def put(self, name: str, first: int, images: Tensor) -> None:
        """Images `first`, `first` + 1, ... of `name`, uint8 (n, C, H, W)."""
        self._maps[name][first : first + len(images)] = images.numpy()

    def first(self, name: str, n: int) -> np.ndarray:
        """The first `n` images of `name`, as a copy."""
        return np.array(self._maps[name][:n])

    def flush(self) -> None:
        """What was put survives a kill after this."""
        for each in self._maps.values():
            each.flush()

    def finish(self, target: Path) -> None:
        """Makes it the result `target`."""
        self.flush()
        self._maps.clear()
        os.replace(self.path, target)


def _header(layout: Layout) -> tuple[bytes, dict[str, int]]:
    """The bytes before the images, as the safetensors library writes them (names in order, padded to 8), and where each begins."""
    entries, offsets, at = {}, {}, 0
    for name in sorted(layout):
        size = math.prod(layout[name])
        entries[name] = {"dtype": "U8", "shape": list(layout[name]), "data_offsets": [at, at + size]}
        offsets[name], at = at, at + size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets


def _starts_with(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) == header
