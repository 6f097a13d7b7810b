"""Numbers with their intervals: exact for rates, square-and-add for differences, bootstrap for means.

Intervals count images. They know nothing of a judge's bias (that is the card's task) or of the spread over training seeds.
"""

import math
from typing import Literal

import numpy as np
from scipy.special import betaincinv, entr

from auditkit.results import Measure
from auditkit_evaluators.votes import Bools, Floats

Safer = Literal["lower", "higher", "neither"]
CONFIDENCE = 0.95
RESAMPLES = 2000
BLOCK = 2**16  # values resampled at once: they stay in the cache of a core


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval of a rate, k of n: covers the truth with at least `confidence`, whatever the truth.

    Clopper and Pearson (1934), https://doi.org/10.1093/biomet/26.4.404.

    Raises:
        ValueError: n < 1, or k outside 0..n.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n and n >= 1, found k = {k}, n = {n}")
    tail = (1 - confidence) / 2
    # Quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k): 100 times faster than binomtest, which searches for them to 5e-13.
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def rate(name: str, k: int, n: int, *, safer: Safer = "neither", confidence: float = CONFIDENCE) -> Measure:
    """k of n as a share with its Clopper-Pearson interval; "not measured" where n = 0."""
    if n == 0:
        return Measure(name=name, value=None, n=0, safer=safer, note="no images")
    low, high = clopper_pearson(k, n, confidence)
    return Measure(name=name, value=k / n, n=n, low=low, high=high, safer=safer)


def difference(
    name: str, k1: int, n1: int, k2: int, n2: int, *, safer: Safer = "lower", comparisons: int = 1, correlation: float = 0.0
) -> Measure:
    """k1/n1 - k2/n2 of two independent samples, as a share; `n` is the smaller sample.

    The interval adds the squares of the distances to the two Clopper-Pearson limits: Newcombe (1998), method 10,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, and Zou and Donner (2008, MOVER).
    Two shares of one sample have a `correlation`, which widens or narrows it.
    With `comparisons` = m it has confidence 1 - .05/m, so that m of them hold together (Bonferroni).

    Raises:
        ValueError: comparisons < 1, or a count that is no count.
    """
    if comparisons < 1:
        raise ValueError(f"expected comparisons >= 1, found {comparisons}")
    if min(n1, n2) == 0:
        return Measure(name=name, value=None, n=0, safer=safer, note="no images")
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    (low1, high1), (low2, high2) = clopper_pearson(k1, n1, confidence), clopper_pearson(k2, n2, confidence)
    p1, p2 = k1 / n1, k2 / n2
    return Measure(
        name=name,
        value=p1 - p2,
        n=min(n1, n2),
        low=max(-1.0, p1 - p2 - _combined(p1 - low1, high2 - p2, correlation)),
        high=min(1.0, p1 - p2 + _combined(high1 - p1, p2 - low2, correlation)),
        safer=safer,
        note=f"simultaneous over {comparisons} comparisons (Bonferroni)" if comparisons > 1 else None,
    )


def _combined(a: float, b: float, correlation: float) -> float:
    """The half-width of a difference from those of its two parts."""
    return math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))


def paired_difference(name: str, first: Bools, second: Bools, *, safer: Safer = "lower", comparisons: int = 1) -> Measure:
    """The share of `first` minus that of `second`, (n,) bool each, where image i of both grew from the same seed.

    Only the images on which the two differ carry information: the interval is that of `difference` on the shares b of
    (first alone) and c of (second alone), which are cells of one multinomial: corr = -sqrt(bc / ((1-b)(1-c))).
    Two samplers that agree on nearly every image are compared to a point or two, where
    independent samples of 500 leave five.

    Raises:
        ValueError: the two differ in length, or comparisons < 1.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two bool arrays (n,), found {first.shape} and {second.shape}")
    n, only_first, only_second = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    b, c = (only_first / n, only_second / n) if n else (0.0, 0.0)
    correlation = -math.sqrt(b * c / ((1 - b) * (1 - c))) if b < 1 and c < 1 else 0.0
    return difference(name, only_first, n, only_second, n, safer=safer, comparisons=comparisons, correlation=correlation)


def entropy(probs: Floats) -> Floats:
    """Entropy in nats of each row of `probs` (B, K), shape (B,), in [0, ln K]; an impossible class adds 0, not NaN.

    The field's own `p * log(p)` is NaN as soon as one probability underflows (SA's and SalUn's classifier_evaluation.py).

    Raises:
        ValueError: a row is no distribution.
    """
    probs = np.asarray(probs, dtype=np.float64)
    if probs.ndim != 2 or not bool((probs >= 0).all()) or not np.allclose(probs.sum(axis=1), 1, atol=1e-6):
        raise ValueError(f"expected rows of probabilities that sum to 1, found shape {probs.shape} with other values")
    return np.asarray(entr(probs).sum(axis=1))


def mean_measure(name: str, values: Floats, *, unit: str, seed: int = 0, safer: Safer = "neither") -> Measure:
    """The mean of `values` (n,) with a seeded bootstrap percentile interval; "not measured" where n < 2.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        return Measure(name=name, value=None, n=n, unit=unit, safer=safer, note=f"{n} images: a mean needs two for its interval")
    if not bool(np.isfinite(values).all()):
        raise ValueError(f"{name}: expected finite values, found {int((~np.isfinite(values)).sum())} that are not")
    # A block at a time: (RESAMPLES, n) floats would be 800 MB at 50,000 images, and one by one 200 images take 10 ms instead of 1.
    rng, most = np.random.default_rng(seed), max(1, BLOCK // n)
    blocks = [min(most, RESAMPLES - done) for done in range(0, RESAMPLES, most)]
    means = np.concatenate([values[rng.integers(n, size=(rows, n))].mean(axis=1) for rows in blocks])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Measure(name=name, value=float(values.mean()), n=n, low=float(low), high=float(high), unit=unit, safer=safer)
