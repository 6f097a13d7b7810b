"""Do generated images lie where the real ones do? Ten numbers on features, and what two real sets of the same data give.

No single number is a verdict. Precision misleads: .37 of pure noise lies "inside the manifold" of birds (ResNet20 features), as
one far-off real image makes a ball that holds half the space; density (.07) and coverage (.01) see it. Recall misleads too, its balls
being those of the noise: .97 for noise against digits, in pixels. Three real images repeated have precision 1. A relabelled class
is as dense as the right one. So read them together, each beside "real v real", what random splits of the reference give against
each other: for precision that is .7 to .8 and not 1 for Gaussians of 64 dimensions.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from auditkit.results import Measure
from auditkit_evaluators import twosample
from auditkit_evaluators.manifold import Share, manifold
from auditkit_evaluators.neighbours import Rows
from auditkit_evaluators.stats import clopper_pearson, mean_measure, rate

ROWS = 2000  # of a side in the two-sample tests, whose memory and time grow with the square
NULL_ROWS = 2000  # of the reference that are split
SPLITS = 39  # the smallest and the largest of 39 bound a 40th with probability 38/40: a 95 % prediction interval
COUNTED = ("precision", "recall", "coverage")  # shares of images; the rest are means
UNITS = {"density": "ratio", "C2ST AUC": "AUC", "C2ST p": "p", "MMD^2": "MMD^2", "MMD p": "p"}
NAMES = ("precision", "recall", "density", "coverage", "clipped density", "clipped coverage", "C2ST AUC", "C2ST p", "MMD^2", "MMD p")
COLLAPSED = 1e-6  # of the largest feature; one image in batches of different size moves float32 features by 1e-7 of it


def compare(features: Rows, reference: Rows, *, space: str, k: int = 5, seed: int = 0, null: bool = True) -> list[Measure]:
    """Ten measures of generated `features` (N, D) against real `reference` (M, D), each but the p followed by its "real v real".

    `space` says what the features are ("cnn-a", "clip", "pixels") and is part of every name; numbers of two spaces are not
    comparable. manifold.py and twosample.py define the measures. Intervals hold the other set fixed: Clopper-Pearson for
    precision, recall and coverage, bootstrap over images for the others. "real v real": mean, smallest and largest of 39 random splits
    of the reference in the proportion N : M (no side under a third). Its p is uniform by construction and left out. `null` = False
    leaves it all out.
    What cannot be measured (k rows or fewer, NaN, collapsed features) says so; 500 v 300 rows of 64 take 0.8 s on one core.

    Raises:
        ValueError: no matrices, two different D, or k < 1.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1] or k < 1:
        raise ValueError(f"expected features (N, D), (M, D) and k >= 1, found {features.shape}, {reference.shape} and k = {k}")
    rng = np.random.default_rng(seed)
    found = {m.name: m for m in _measured(features, reference, k, rng)}
    alike = {m.name: m for m in _null(features, reference, k, rng)} if null else {}
    named = []
    for name in NAMES:
        named.append(found[name].model_copy(update={"name": f"{name} ({space})"}))
        if name in alike:
            named.append(alike[name].model_copy(update={"name": f"{name} ({space}), real v real"}))
    return named


def collapsed(rows: Rows) -> bool:
    """Whether all rows (N, D) are one point, up to the rounding of float32 features."""
    return bool(np.ptp(rows, axis=0).max() <= COLLAPSED * np.abs(rows).max())


def _measured(features: Rows, reference: Rows, k: int, rng: np.random.Generator) -> Iterator[Measure]:
    n, m = len(features), len(reference)
    reason = _unusable(features, reference)
    few = f"needs more than k = {k} images a side, found {n} and {m}" if min(n, m) <= k else None
    shares = {} if reason or few else manifold(features, reference, k)
    for name in NAMES[:6]:
        side = m if name in ("recall", "coverage", "clipped coverage") else n
        if name == "recall" and not (reason or few) and collapsed(features):
            yield _not(name, side, "collapsed features: all generated images are one point, which has no manifold")
        else:
            yield _mean(name, shares[name], rng) if name in shares else _not(name, side, reason or few or "")
    least = twosample.LEAST
    reason = reason or (f"needs at least {least} images a side, found {n} and {m}" if min(n, m) < least else None)
    x, y = (rows if len(rows) <= ROWS else rows[rng.choice(len(rows), ROWS, replace=False)] for rows in (features, reference))
    cut = f"random {len(x)} of {n} generated and {len(y)} of {m} real" if (len(x), len(y)) != (n, m) else None
    for statistic, p, test in (("C2ST AUC", "C2ST p", twosample.c2st), ("MMD^2", "MMD p", twosample.mmd)):
        if reason:
            yield from (_not(name, min(n, m), reason) for name in (statistic, p))
            continue
        result = test(x, y, rng)
        measure = partial(Measure, n=result.rows, note=cut)
        yield measure(name=statistic, value=result.value, low=result.low, high=result.high, unit=UNITS[statistic])
        yield measure(name=p, value=result.p, unit="p")


def _null(features: Rows, reference: Rows, k: int, rng: np.random.Generator) -> Iterator[Measure]:
    """Each measure between two disjoint random parts of the reference; the features give only their number."""
    n, m = len(features), len(reference)
    rows = min(m, NULL_ROWS)
    first = min(max(round(rows * n / max(n + m, 1)), rows // 3), rows - rows // 3)
    reason = _unusable(reference[:1], reference)
    values: dict[str, list[float]] = {name: [] for name in NAMES if not name.endswith(" p")}
    for _ in range(0 if reason else SPLITS):
        order = rng.permutation(m)[:rows]
        a, b = reference[order[:first]], reference[order[first:]]
        if min(len(a), len(b)) > k:
            for name, share in manifold(a, b, k).items():
                values[name].append(share.value)
        if min(len(a), len(b)) >= twosample.LEAST:
            values["C2ST AUC"].append(twosample.c2st(a, b, rng, permutations=0, resamples=0).value)
            values["MMD^2"].append(twosample.mmd(a, b, rng, permutations=0, resamples=0).value)
    for name, found in values.items():
        if not found:
            yield _not(name, rows, reason or f"the reference of {m} is too small to be split into {first} and {rows - first}")
            continue
        note = f"{SPLITS} random splits of the reference, {first} against {rows - first}: mean, smallest and largest"
        mean = float(np.mean(found))
        yield Measure(name=name, value=mean, n=first, low=min(found), high=max(found), unit=UNITS.get(name, "share"), note=note)


def _mean(name: str, share: Share, rng: np.random.Generator) -> Measure:
    """The mean of per-image values with its interval. All values 0 leave a bootstrap no width: then the exact bound of "none of n"."""
    n, values = len(share.values), share.values
    if name in COUNTED:
        return rate(name, int(values.sum()), n)
    raw = mean_measure(name, values, unit="raw", seed=int(rng.integers(2**32)))
    low, high = float(raw.low or 0), float(raw.high or 0)
    if name == "density":
        note = None if high > low else "every image has the same value: the interval has no width"
        return Measure(name=name, value=share.value, n=n, low=low, high=high, unit="ratio", note=note)
    high = high if values.any() else clopper_pearson(0, n)[1]  # values are at most 1, so their mean is at most the share above 0
    return Measure(name=name, value=share.value, n=n, low=share.finish(low), high=share.finish(high), note=f"over the {share.of} images")


def _unusable(features: Rows, reference: Rows) -> str | None:
    """Why nothing can be measured at all, or None."""
    for what, rows in (("generated", features), ("real", reference)):
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        if bad or not len(rows):
            return f"NaN or infinite features in {bad} of {len(rows)} {what} images" if bad else f"no {what} images"
    return "collapsed features: all real images are one point" if collapsed(reference) else None


def _not(name: str, n: int, reason: str) -> Measure:
    return Measure(name=name, value=None, n=n, unit=UNITS.get(name, "share"), note=f"not measured: {reason}")
