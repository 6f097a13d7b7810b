"""Fano's bound: how often anybody who sees only this judge's answers must be wrong about which class was asked for.

h(P) + P ln(K - 1) >= H(X | X'), in nats, for the class asked X and the class recovered X' (Fano 1952; Cover and Thomas, Elements of
Information Theory, theorem 2.10.1). Tight: the smallest P that satisfies it. Weak: P >= (H - ln 2) / ln K; the "1" of the textbook is
one bit, and mixing it with nats gives .056 where .190 is right. It is a bound given the judge: if noise is called "bird" every time,
it says that birds are recovered.
"""

import math

import numpy as np
from scipy.optimize import brentq

from auditkit.results import Measure

RESAMPLES = 300


def weak(h: float, classes: int) -> float:
    """The bound of H = `h` nats over `classes` classes, at least 0."""
    return max(0.0, (h - math.log(2)) / math.log(classes))


def tight(h: float, classes: int) -> float:
    """The smallest error P in [0, 1 - 1/K] with h(P) + P ln(K - 1) = `h` nats.

    Raises:
        ValueError: fewer than two classes, or `h` outside 0..ln K.
    """
    most = math.log(classes) if classes >= 2 else -1.0
    if not 0 <= h <= most + 1e-9:
        raise ValueError(f"expected 0 <= H <= ln K and K >= 2, found H = {h} and K = {classes}")

    def gap(p: float) -> float:
        binary = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
        return binary + p * math.log(classes - 1) - h

    top = 1 - 1 / classes
    return top if gap(top) <= 0 else 0.0 if h <= 0 else float(brentq(gap, 0.0, top))


def conditional_entropy(confusion: np.ndarray) -> float:
    """H(X | X') in nats, X uniform over the classes asked, from counts (asked, recovered). Plug-in: biased low in few images.

    Raises:
        ValueError: a class that was asked has no image.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim != 2 or (counts.sum(axis=1) < 1).any():
        raise ValueError(f"expected counts (asked, recovered) with images in each row, found shape {counts.shape}")
    joint = counts / counts.sum(axis=1, keepdims=True) / len(counts)
    recovered = joint.sum(axis=0)
    return float(_entropy(joint) - _entropy(recovered))


def bound(judge: str, confusion: np.ndarray, *, seed: int = 0) -> list[Measure]:
    """H(X | X') and the two bounds for one judge, from counts (asked, recovered), with bootstrap intervals over images."""
    counts, k = np.asarray(confusion, dtype=np.int64), len(confusion)
    rng = np.random.default_rng(seed)
    found = [conditional_entropy(counts)]
    found += [conditional_entropy(np.stack([rng.multinomial(row.sum(), row / row.sum()) for row in counts])) for _ in range(RESAMPLES)]
    h = np.clip(np.array(found), 0, math.log(k))
    n, note = int(counts.sum()), f"a bound given {judge}, whose own confusions it holds"
    measures = []
    for name, unit, values in (
        ("H(asked | recovered)", "nats", h),
        ("Fano, weak: error at least", "share", np.array([weak(x, k) for x in h])),
        ("Fano, tight: error at least", "share", np.array([tight(x, k) for x in h])),
    ):
        low, high = np.quantile(values[1:], [0.025, 0.975])
        value = float(values[0])
        measures.append(
            Measure(
                name=f"{judge}: {name}", value=value, n=n, low=min(float(low), value), high=max(float(high), value), unit=unit, note=note
            )
        )
    return measures


def _entropy(p: np.ndarray) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())
