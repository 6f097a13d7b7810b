"""Are two sets of features drawn from one distribution? A classifier's AUC (C2ST) and the kernel distance MMD^2, each with a p.

C2ST: Lopez-Paz and Oquab (2017), https://arxiv.org/abs/1610.06545. A logistic regression learns the one random half and is
asked about the other, whose labels are exchangeable if the sets are alike, whatever was learnt: its permutation p holds at any n.
MMD: Gretton et al. (2012), https://jmlr.org/papers/v13/gretton12a.html, eq. 3 (unbiased, so it can be below 0), with the kernel
exp(-|x - y|^2 / (2 s^2)), s the median distance within the pooled rows. The pool does not know the labels, so neither do s and
the Gram matrix, and permuting the labels gives a p that holds at any n.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from auditkit_evaluators.neighbours import Rows
from auditkit_evaluators.stats import CONFIDENCE
from auditkit_evaluators.votes import Floats

PERMUTATIONS = 999  # the smallest p is .001
RESAMPLES = 500
LEAST = 8  # rows a side: four to learn from and four to be asked about


@dataclass(frozen=True)
class Test:
    """A statistic with its 95 % bootstrap interval and the p of "one distribution", one-sided: larger means further apart.

    `rows` are the smaller number of rows a side that it is based on. Without resamples low and high are None, and p without permutations.
    """

    __test__ = False  # for pytest, which collects classes by this name

    value: float
    rows: int
    low: float | None = None
    high: float | None = None
    p: float | None = None


def c2st(x: Rows, y: Rows, rng: np.random.Generator, *, permutations: int = PERMUTATIONS, resamples: int = RESAMPLES) -> Test:
    """AUC of a logistic regression on standardised features, x (N, D) against y (M, D): .5 for sets alike, 1 for sets apart.

    Below .5 is chance too: p looks above alone. The interval resamples the rows it was asked about, the classifier held fixed.

    Raises:
        ValueError: fewer than LEAST rows on a side.
    """
    _check(x, y)
    learnt_x, asked_x = np.split(x[rng.permutation(len(x))], [len(x) // 2])
    learnt_y, asked_y = np.split(y[rng.permutation(len(y))], [len(y) // 2])
    learnt, asked = np.concatenate([learnt_x, learnt_y]), np.concatenate([asked_x, asked_y])
    scaler = StandardScaler().fit(learnt)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(learnt), np.arange(len(learnt)) < len(learnt_x))
    scores = model.decision_function(scaler.transform(asked))
    ranks, n, m = rankdata(scores), len(asked_x), len(asked_y)
    value = float(_auc(ranks[:n].sum(), n, m))
    p = None
    if permutations:
        sums = np.array([rng.permutation(ranks)[:n].sum() for _ in range(permutations)])
        p = _share(_auc(sums, n, m), value)
    if not resamples:
        return Test(value=value, rows=min(n, m), p=p)
    wins = (scores[:n, None] > scores[n:]) + (scores[:n, None] == scores[n:]) / 2
    a, b = _draws(n, resamples, rng), _draws(m, resamples, rng)
    low, high = _limits(((wins.T @ a) * b).sum(axis=0) / (n * m))
    return Test(value=value, rows=min(n, m), low=low, high=high, p=p)


def mmd(x: Rows, y: Rows, rng: np.random.Generator, *, permutations: int = PERMUTATIONS, resamples: int = RESAMPLES) -> Test:
    """Unbiased MMD^2 of x (N, D) and y (M, D). Memory: four (N + M)^2 float64 matrices, 0.5 GB at 2,000 rows a side.

    The bootstrap counts no row against its own copies; where the sets are alike MMD^2 is degenerate and the interval rough.

    Raises:
        ValueError: fewer than LEAST rows on a side.
    """
    _check(x, y)
    n, m = len(x), len(y)
    squared = pdist(np.concatenate([x, y]).astype(np.float64), "sqeuclidean")
    spread = np.median(squared[squared > 0]) if (squared > 0).any() else 1.0  # copies would make the median 0
    gram = squareform(np.exp(-squared / (2 * spread)))  # 0 on the diagonal: no row is compared with itself
    first = (np.arange(n + m) < n).astype(float)[:, None]
    value = float(_mmd(gram, first, 1 - first)[0])
    p = None
    if permutations:
        shuffled = np.stack([rng.permutation(first[:, 0]) for _ in range(permutations)], axis=1)
        p = _share(_mmd(gram, shuffled, 1 - shuffled), value)
    if not resamples:
        return Test(value=value, rows=min(n, m), p=p)
    a, b = np.zeros((n + m, resamples)), np.zeros((n + m, resamples))
    a[:n], b[n:] = _draws(n, resamples, rng), _draws(m, resamples, rng)
    low, high = _limits(_mmd(gram, a, b))
    return Test(value=value, rows=min(n, m), low=low, high=high, p=p)


def _mmd(gram: Floats, a: Floats, b: Floats) -> Floats:
    """MMD^2 of the rows weighted by each column of `a` (R, P) and those weighted by `b` (R, P), a row never against itself: (P,)."""
    ka, kb = gram @ a, gram @ b
    own = [(w * kw).sum(axis=0) / (w.sum(axis=0) ** 2 - (w**2).sum(axis=0)) for w, kw in ((a, ka), (b, kb))]
    cross = (b * ka).sum(axis=0) / (a.sum(axis=0) * b.sum(axis=0) - (a * b).sum(axis=0))
    return np.asarray(own[0] + own[1] - 2 * cross)


def _auc(sums: Floats, n: int, m: int) -> Floats:
    return (sums - n * (n + 1) / 2) / (n * m)


def _share(null: Floats, value: float) -> float:
    """The permutation p. Sums in another order differ in the last digits: without the slack a tie could count as smaller."""
    return float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))


def _draws(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often a bootstrap draws each of n rows: (n, resamples)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).T.astype(np.float64)


def _limits(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _check(x: Rows, y: Rows) -> None:
    if min(len(x), len(y)) < LEAST:
        raise ValueError(f"expected at least {LEAST} rows a side, found {len(x)} and {len(y)}")
