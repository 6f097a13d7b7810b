"""How far a share may lie from its estimate before the answers speak against it: a profile likelihood ratio.

A bootstrap of a mixture is too narrow near 0 and 1: over columns from 31 images it covered a share of 1 in 75 % of simulations, and 0
beside a class that it is confused with in 83 % (benchmarks/intervals.py). Here each share on a grid is given its best companions and,
since they are uncertain too, its best columns, by EM; it stays if that costs no more than chance would.
"""

import numpy as np
from scipy.stats import chi2

from auditkit_evaluators.votes import Floats

LEVEL = 0.975  # of chi-squared: with .95 a share of .9 (columns from 200 images) was covered in 89 % of 100 simulations, with .975 in 93 %
STEPS = 100
GRID = 9  # shares on each side, denser towards the interval that is to be widened


def widened(votes: Floats, columns: Floats, point: Floats, k: int, low: float, high: float, *, level: float = LEVEL) -> tuple[float, float]:
    """`low` and `high` of the share of column `k`, moved outwards to the last share that the likelihood ratio accepts.

    `votes` (O,) and `columns` (C, O) are counts, every one of the latter above 0; `point` (C,) is the estimate.
    """
    way = np.linspace(0, 1, GRID) ** 2
    below, above = low * (1 - way), high + (1 - high) * way
    loss = _loss(votes, columns, point, k, np.clip(np.concatenate([below, above]), 0, 1))
    accepted = loss <= chi2.ppf(level, 1)
    # At 1 all the others vanish at once: nearly half of them would have had a share by chance, and that many degrees of freedom go.
    accepted[-1] = loss[-1] <= chi2.ppf(level, (len(columns) - 1) / 2)
    return float(below[_last(accepted[:GRID])]), float(above[_last(accepted[GRID:])])


def _last(accepted: np.ndarray) -> int:
    """The accepted share that lies farthest out, or the one that there was."""
    return int(np.flatnonzero(accepted)[-1]) if accepted.any() else 0


def _loss(votes: Floats, columns: Floats, point: Floats, k: int, tried: Floats) -> Floats:
    """Twice the log-likelihood that each share of column `k` in `tried` (R,) costs, with the other shares and all columns at their best."""
    others = np.arange(len(columns)) != k
    start = np.maximum(point, 1e-3)
    share = np.concatenate([[start[k] / start.sum()], tried])  # row 0 is free
    pi = np.empty((len(share), len(columns)))
    pi[:, k], pi[:, others] = share, (1 - share)[:, None] * start[others] / start[others].sum()
    column = np.broadcast_to(columns / columns.sum(axis=1, keepdims=True), (len(share), *columns.shape))
    for _ in range(STEPS):
        found = pi[:, :, None] * column * (votes / _mixed(pi, column))[:, None, :]
        counts = found.sum(axis=2)
        column = columns + found
        column = column / column.sum(axis=2, keepdims=True)
        pi[1:, others] = (1 - tried)[:, None] * counts[1:, others] / np.maximum(counts[1:, others].sum(axis=1, keepdims=True), 1e-300)
        pi[0] = counts[0] / votes.sum()
    likelihood = (votes * np.log(_mixed(pi, column))).sum(axis=1) + (columns * np.log(column)).sum(axis=(1, 2))
    return np.asarray(2 * (likelihood.max() - likelihood[1:]))


def _mixed(pi: Floats, column: Floats) -> Floats:
    return np.maximum((pi[:, None, :] @ column)[:, 0], 1e-300)
