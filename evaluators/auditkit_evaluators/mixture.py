"""What share of the images shows which class: votes explained as a mixture of measured columns, "no class" among the answers.

votes = sum_k share_k column_k, with one column for each class (real held-out images, from the judge's card) and one for each control of
the same images (matched noise, surrogates). Fitted by EM, which for known columns climbs to the one maximum of the likelihood. A judge
that calls 79 % of noise "bird" gives birds and noise nearly the same column, and its interval says so.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from auditkit_evaluators import likelihood
from auditkit_evaluators.stats import clopper_pearson
from auditkit_evaluators.votes import Floats

DRAWS = 400
STEPS = 50  # of three EM steps each: .005 short of the largest log-likelihood on average (plain EM in the same time: .08)
LEVEL = 0.95
TRACE = 1e-3  # EM comes to 0 slowly: a smaller bound is 0


@dataclass(frozen=True)
class Shares:
    """The share of each column (C,) among `n` votes, its 95 % interval, and its deviation over the draws."""

    n: int
    value: Floats
    low: Floats
    high: Floats
    deviation: Floats

    def surely_above(self, column: int, bound: float, claims: int) -> bool:
        """Whether the share exceeds `bound` at a one-sided confidence of 1 - .025 / claims (Bonferroni).

        Percentiles of 400 draws end at .25 %, so the far tail is a normal one on the deviation of the draws; and never beyond
        Clopper-Pearson at that confidence, nor the 95 % bound, which knows that a share is not normal at 0.
        """
        z, k = float(norm.isf(0.025 / claims)), round(float(self.value[column]) * self.n)
        exact = clopper_pearson(k, self.n, confidence=1 - 0.05 / claims)[0]
        return bool(min(self.low[column], self.value[column] - z * self.deviation[column], exact) > bound)


def shares(votes: np.ndarray, columns: np.ndarray, *, asked: int = 0, seed: int = 0) -> Shares:
    """Shares of `columns` (C, O) in `votes` (O,), both counts of answers.

    The interval is a bootstrap of both: the votes are drawn again, and each column from its Dirichlet posterior with a prior that weighs
    one image (31 images of a class leave much open about how often they are taken for another). It is the hull of the percentiles, of
    a normal interval on their error, and of Clopper-Pearson for as many images: a bootstrap of 0 of 500 answers would be [0, 0], where
    500 images exclude no share below .74 %. That of column `asked` also holds every share that a likelihood ratio accepts
    (likelihood.py: 4 ms, which is why only one column has it). Its coverage is measured in benchmarks/intervals.py.

    Raises:
        ValueError: no votes, or a column without images.
    """
    votes, columns = np.asarray(votes, dtype=np.float64), np.asarray(columns, dtype=np.float64)
    if votes.sum() < 1 or columns.ndim != 2 or columns.shape[1:] != votes.shape or (columns.sum(axis=1) < 1).any():
        raise ValueError(f"expected votes (O,) and columns (C, O) with images in each, found {votes.shape} and {columns.shape}")
    rng = np.random.default_rng([seed, 0x6D6978])
    prior = 1 / columns.shape[1]
    point = fit(votes[None], (columns + prior)[None] / (columns.sum(axis=1)[None, :, None] + 1))[0]
    n = int(votes.sum())
    again = rng.multinomial(n, votes / n, size=DRAWS).astype(np.float64)
    gamma = rng.standard_gamma(np.broadcast_to(columns + prior, (DRAWS, *columns.shape))) + 1e-300
    drawn = fit(again, gamma / gamma.sum(axis=2, keepdims=True))
    deviation = drawn.std(axis=0)
    # The estimate is pulled away from 0 and 1 (11 other columns take what they can), and the draws are pulled twice.
    reach = float(norm.isf((1 - LEVEL) / 2)) * np.hypot(deviation, drawn.mean(axis=0) - point)
    exact = np.array([clopper_pearson(round(share * n), n) for share in point]).T
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    low, high = np.min([low, point - reach, exact[0], point], axis=0), np.max([high, point + reach, exact[1], point], axis=0)
    low[asked], high[asked] = likelihood.widened(votes, columns + prior, point, asked, float(low[asked]), float(high[asked]))
    return Shares(n=n, value=point, low=np.where(low < TRACE, 0, low), high=np.where(high > 1 - TRACE, 1, high), deviation=deviation)


def fit(votes: Floats, columns: Floats) -> Floats:
    """EM for many mixtures at once: `votes` (R, O) and `columns` (R, C, O) of rows that sum to 1, to shares (R, C).

    Accelerated by squared extrapolation: Varadhan and Roland (2008), scheme S3, https://doi.org/10.1111/j.1467-9469.2007.00585.x. Where
    that leaves the simplex, the plain step is taken.
    """
    total, across = votes.sum(axis=1, keepdims=True), columns.transpose(0, 2, 1)

    def em(pi: Floats) -> Floats:
        expected = np.maximum((across @ pi[:, :, None])[:, :, 0], 1e-300)
        return np.asarray(pi * (columns @ (votes / expected)[:, :, None])[:, :, 0] / total)

    pi = np.full(columns.shape[:2], 1 / columns.shape[1])
    for _ in range(STEPS):
        first = em(pi)
        second = em(first)
        step, bend = first - pi, second - 2 * first + pi
        length = np.linalg.norm(step, axis=1) / np.maximum(np.linalg.norm(bend, axis=1), 1e-12)
        a = np.maximum(length, 1)[:, None]
        far = pi + 2 * a * step + a**2 * bend
        pi = em(np.where((far < 0).any(axis=1, keepdims=True), second, far))
        pi = pi / pi.sum(axis=1, keepdims=True)
    return np.asarray(pi)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the summed difference of two histograms of counts (O,): 0 for equal columns, 1 for disjoint ones."""
    p, q = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)
