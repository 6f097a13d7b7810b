"""Exact nearest neighbours in Euclidean distance, in blocks: every pair is looked at, nothing is indexed or approximated.

Squared distances come as |x|^2 + |y|^2 - 2 x.y from float64 products of centred features; those that are returned are then
computed again from the differences. The first form cancels: in float32 two copies of a row of norm 1e4 lie up to 8 apart.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit_evaluators.votes import Floats

Rows = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

BLOCK = 4096  # rows of x against rows of y; one block of float64 distances is 128 MiB
TIE = 1e-12  # of |x|^2 + |y|^2: the products err by 2e-15 of it in 512 dimensions, 1e-14 in 12,288 (measured)


def nearest(x: Rows, y: Rows, k: int, *, exclude_self: bool = False) -> tuple[Floats, Ints]:
    """The `k` rows of `y` (M, D) nearest to each row of `x` (N, D): distances (N, k), rising, and row numbers (N, k).

    `exclude_self` says that x and y are the same rows and leaves out row i for row i, by its number: a copy of it elsewhere
    counts, at distance exactly 0. Distances are right to 1e-4 down to 1e-5 of the norms of the centred rows, and 0 for copies.
    Memory beside the inputs and the answer does not grow with N or M: two blocks of distances (256 MiB) and a few of features
    (32 KiB x D each); 0.43 GiB measured for 50,000 x 50,000 rows of 512.

    Raises:
        ValueError: not two finite arrays of the same D, too few rows for k, or exclude_self with two different sets.
    """
    _check(x, y)
    if exclude_self and len(x) != len(y):
        raise ValueError(f"exclude_self: expected the same rows twice, found {len(x)} and {len(y)}")
    if not 1 <= k <= len(y) - exclude_self:
        raise ValueError(f"expected 1 <= k <= {len(y) - exclude_self} neighbours, found k = {k}")
    distances, indices = np.empty((len(x), k)), np.empty((len(x), k), dtype=np.int64)
    for start, a, blocks in _blocks(x, y):
        best, found = torch.empty(len(a), 0, dtype=torch.float64), torch.empty(len(a), 0, dtype=torch.int64)
        for first, _, squared in blocks:
            if exclude_self and first == start:
                squared.fill_diagonal_(torch.inf)
            near, at = squared.topk(min(k, squared.shape[1]), dim=1, largest=False)
            best, found = torch.cat([best, near], dim=1), torch.cat([found, at + first], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            found = found.gather(1, order)
        exact = _exact(x[start : start + len(a)], y, found)
        exact, order = exact.sort(dim=1, stable=True)
        distances[start : start + len(a)], indices[start : start + len(a)] = exact.numpy(), found.gather(1, order).numpy()
    return distances, indices


def inside(x: Rows, y: Rows, radii: Floats, *, exclude_self: bool = False) -> Ints:
    """How many of the balls around the rows of `y` (M, D), of `radii` (M,), hold each row of `x` (N, D): counts (N,).

    A ball holds its edge: a copy of the neighbour that set its radius is inside, and so is any row closer than 1e-6 of
    the norms to the centre of a ball of radius 0. `exclude_self` and memory as in nearest.

    Raises:
        ValueError: not two finite arrays of the same D, or not one radius per row of y.
    """
    _check(x, y)
    if np.shape(radii) != (len(y),) or (exclude_self and len(x) != len(y)):
        raise ValueError(f"expected radii ({len(y)},) and, to exclude a row itself, as many rows, found {np.shape(radii)}, {len(x)}")
    limits = torch.from_numpy(np.asarray(radii, dtype=np.float64)).square()
    counts = np.zeros(len(x), dtype=np.int64)
    for start, a, blocks in _blocks(x, y):
        for first, norms, squared in blocks:
            edge = limits[first : first + squared.shape[1]] + TIE * norms
            hits = squared.sub_(TIE * a.square().sum(dim=1)[:, None]) <= edge
            if exclude_self and first == start:
                hits.fill_diagonal_(False)
            counts[start : start + len(a)] += hits.count_nonzero(dim=1).numpy()  # sum would copy a block as int64
    return counts


def _blocks(x: Rows, y: Rows) -> Iterator[tuple[int, Tensor, Iterator[tuple[int, Tensor, Tensor]]]]:
    """For each block of x: its first row, its rows, and for each block of y (first row, squared norms, squared distances)."""
    centre = np.mean(y, axis=0, dtype=np.float64) if len(y) else 0.0

    def against(a: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        for first in range(0, len(y), BLOCK):
            b = torch.from_numpy(y[first : first + BLOCK] - centre)
            norms = b.square().sum(dim=1)
            squared = torch.addmm(norms[None, :], a, b.T, alpha=-2).add_(a.square().sum(dim=1)[:, None]).clamp_(min=0)
            yield first, norms, squared

    for start in range(0, len(x), BLOCK):
        a = torch.from_numpy(x[start : start + BLOCK] - centre)
        yield start, a, against(a)


def _exact(x: Rows, y: Rows, found: Tensor) -> Tensor:
    """Distances (n, k) of the rows of x from rows `found` (n, k) of y, from their differences, one neighbour at a time."""
    a = np.asarray(x, dtype=np.float64)
    columns = [np.sqrt(np.square(a - y[column]).sum(axis=1)) for column in found.T.numpy()]
    return torch.from_numpy(np.stack(columns, axis=1))


def _check(x: Rows, y: Rows) -> None:
    if np.ndim(x) != 2 or np.ndim(y) != 2 or x.shape[1] != y.shape[1] or len(y) == 0:
        raise ValueError(f"expected rows (N, D) and (M, D) of the same D, M > 0, found {np.shape(x)} and {np.shape(y)}")
    if not bool(np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("expected finite features, found NaN or infinity")
