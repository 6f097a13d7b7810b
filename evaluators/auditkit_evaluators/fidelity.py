"""FID, KID, precision and recall, and the Inception Score of the retained classes, computed by torch-fidelity 0.4 (rows.py).

FID falls with N whatever the images, so both sides have the same N, and every number stands beside what two sets of real images
give each other at a named N. An FID on other features is another quantity: every name carries the extractor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor

from auditkit.results import Measure
from auditkit_evaluators import rows
from auditkit_evaluators.density import collapsed
from auditkit_evaluators.extractor import Extractor
from auditkit_evaluators.neighbours import Ints
from auditkit_evaluators.stats import CONFIDENCE, rate
from auditkit_evaluators.votes import Floats, check_images

KID_LEAST, ISC_LEAST = 20, 100  # images: a KID subset is half of them; an Inception Score of fewer is mostly its own bias
CHEAP = 256  # features up to which an FID takes milliseconds (2048: 10 s), so that jackknife and splits are affordable
GROUPS, SPLITS = 20, 5
UNITS = {"FID": "FID", "KID": "KID", "precision": "share", "recall": "share", "IS": "IS"}
PER_CLASS = ("FID", "KID", "precision", "recall")  # the Inception Score of one class says nothing
NOTHING = [Measure(name=f"{name} {{}}", value=None, n=0, unit=UNITS[name], note="not measured: no images") for name in PER_CLASS]
Part = tuple[Floats, Floats]  # features (N, D) and logits (N, K) of N images


@dataclass(frozen=True)
class _Class:
    """Generated images of one class, as many real ones, and two disjoint sets of real ones for each split."""

    fake: Part
    real: Part
    splits: list[tuple[Part, Part]]


def compare(images: dict[int, Tensor], reference: dict[int, Tensor], extractor: Extractor, *, seed: int = 0) -> list[Measure]:
    """Fidelity of `images`, class to uint8 (N, C, H, W), to the real `reference` of the same classes, together and class by class.

    Of each class the same number is taken on both sides, at random. A name carries the extractor and the classes, "FID (Inception
    v3), class 3"; the same name with ", real v real" follows it: two disjoint random sets of the reference, as large as the
    reference allows and at most N; mean, smallest and largest of 5 splits (1 where features are more than 256). Intervals: FID and
    Inception Score (of the generated images, all classes together) by a jackknife over 20 groups; KID by the spread of its subsets
    (rows.py); precision and recall Clopper-Pearson, the other set held fixed. None of them knows of the spread over training seeds.

    Raises:
        ValueError: images that are not uint8 or not of one shape, or classes that differ.
        UserError: the extractor refuses.
    """
    if not images or images.keys() != reference.keys():
        raise ValueError(f"expected the same classes on both sides, found {sorted(images)} and {sorted(reference)}")
    shape = tuple(next(iter(reference.values())).shape[1:])
    rng = np.random.default_rng(seed)
    classes = {}
    for k in sorted(images):
        fake, real = check_images(images[k], shape), check_images(reference[k], shape)
        if len(fake) and len(real):
            classes[k] = _prepared(fake, real, extractor, rng)
    named = [(m, "retained") for m in (_measured(list(classes.values()), rng, together=True) if classes else NOTHING)]
    named += [(m, f"class {k}") for k in sorted(images) for m in (_measured([classes[k]], rng) if k in classes else NOTHING)]
    return [m.model_copy(update={"name": m.name.format(f"({extractor.name}), {where}")}) for m, where in named]


def _prepared(fake: Tensor, real: Tensor, extractor: Extractor, rng: np.random.Generator) -> _Class:
    """One pass of the extractor over the images that are used."""
    n = min(len(fake), len(real))
    generated = extractor.function(fake[torch.from_numpy(rng.permutation(len(fake))[:n])])
    pool = extractor.function(real[torch.from_numpy(rng.permutation(len(real))[: 2 * n])])
    half, splits = min(n, len(pool[0]) // 2), []
    for _ in range(SPLITS if pool[0].shape[1] <= CHEAP else 1):
        order = rng.permutation(len(pool[0]))
        splits.append((_taken(pool, order[:half]), _taken(pool, order[half : 2 * half])))
    return _Class(fake=generated, real=_taken(pool, np.arange(n)), splits=splits)


def _measured(classes: Sequence[_Class], rng: np.random.Generator, *, together: bool = False) -> Iterator[Measure]:
    """Each measure and its "real v real", "{}" in their names standing for extractor and classes."""
    fake, real = (_joined([getattr(c, side) for c in classes]) for side in ("fake", "real"))
    pairs = [[c.splits[i] for c in classes] for i in range(len(classes[0].splits))]
    splits = [(_joined([a for a, _ in pair]), _joined([b for _, b in pair])) for pair in pairs]
    for name in MEASURES if together else PER_CLASS:
        yield _one(name, fake, real, rng)
        yield _null(name, splits, rng)


def _one(name: str, fake: Part, real: Part, rng: np.random.Generator) -> Measure:
    n, measure = len(fake[0]), partial(Measure, name=f"{name} {{}}", n=len(fake[0]), unit=UNITS[name])
    if reason := _reason(name, fake, real):
        return measure(value=None, note=f"not measured: {reason}")
    value, error = MEASURES[name](fake, real, int(rng.integers(2**31)))
    if name in ("precision", "recall"):
        return rate(f"{name} {{}}", round(value * n), n)
    if error is None and (fake[0].shape[1] > CHEAP or n < 2 * GROUPS):
        return measure(value=value, note=f"no interval: {fake[0].shape[1]} features, {n} images a side")
    reach = t.ppf((1 + CONFIDENCE) / 2, GROUPS - 1) * (_jackknife(name, fake, real, rng) if error is None else error)
    return measure(value=value, low=value - reach, high=value + reach)


def _jackknife(name: str, fake: Part, real: Part, rng: np.random.Generator) -> float:
    """The standard error, from leaving out one group of images of both sides at a time."""
    n = len(fake[0])
    groups = [np.setdiff1d(np.arange(n), part) for part in np.array_split(rng.permutation(n), GROUPS)]
    without = [MEASURES[name](_taken(fake, kept), _taken(real, kept), 0)[0] for kept in groups]
    return float(np.sqrt((GROUPS - 1) * np.var(without)))


def _null(name: str, splits: list[tuple[Part, Part]], rng: np.random.Generator) -> Measure:
    size = len(splits[0][0][0])
    measure = partial(Measure, name=f"{name} {{}}, real v real", n=size, unit=UNITS[name])
    if reason := next(filter(None, (_reason(name, *split) for split in splits)), None):
        return measure(value=None, note=f"not measured: {reason}")
    found = [MEASURES[name](*split, int(rng.integers(2**31)))[0] for split in splits]
    note = f"{len(found)} random split(s) of the reference, {size} against {size}: mean, smallest and largest"
    return measure(value=float(np.mean(found)), low=min(found), high=max(found), note=note)


def _reason(name: str, fake: Part, real: Part) -> str | None:
    """Why `name` cannot be measured on these, or None."""
    n, width = len(fake[0]), fake[0].shape[1]
    least = {"FID": width + 1, "KID": KID_LEAST, "IS": ISC_LEAST}.get(name, rows.NEIGHBOURS + 1)
    if n < least:
        return f"needs at least {least} images a side" + (f" for {width} features" if name == "FID" else "") + f", has {n}"
    if not all(np.isfinite(part).all() for part in (*fake, *real)):
        return "NaN or infinite features"
    if collapsed(real[0]) or (name == "recall" and collapsed(fake[0])):
        return "collapsed features: all images of a side are one point"
    return None


def _taken(part: Part, at: Ints) -> Part:
    return part[0][at], part[1][at]


def _joined(parts: Sequence[Part]) -> Part:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


MEASURES: dict[str, Callable[[Part, Part, int], tuple[float, float | None]]] = {  # of generated and real images: value, its error
    "FID": lambda fake, real, seed: (rows.fid(fake[0], real[0]), None),
    "KID": lambda fake, real, seed: rows.kid(fake[0], real[0], seed),
    "precision": lambda fake, real, seed: (rows.precision_recall(fake[0], real[0])[0], None),
    "recall": lambda fake, real, seed: (rows.precision_recall(fake[0], real[0])[1], None),
    "IS": lambda fake, real, seed: (rows.inception_score(fake[1]), None),
}
