"""Cards: what a judge was itself measured to do, once, before it speaks.

Real held-out images tell how well it knows each class; the panel of noise tells what it calls nothing at all; the ladder between them tells
how much of a class it needs. "Open" is the answer with "no class", "closed" the one without.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from auditkit.data import Dataset
from auditkit.results import Measure, Record, canonical, sha256
from auditkit_evaluators import panel
from auditkit_evaluators.mixture import total_variation
from auditkit_evaluators.stats import clopper_pearson, rate
from auditkit_evaluators.votes import Bools, Floats, Judge

VERSION = 1  # of what a card measures: part of its key
PANEL_N = 500
RUNG_N = 100  # images of each class on each rung, at least: real images are repeated under other noise where there are fewer
RUNG_CAP = 200
AT_ONCE = 2000 * 3 * 32 * 32  # numbers of a rung's images: a thousand classes have 100,000 images
BINS = 15
# Real columns come from this judge's own idea of noise: the hardest of those that hold no structure at all.
INDEPENDENT = ("sign", "normal-4", "normal-1", "normal-.5", "normal-.25", "normal-.1", "uniform")


class Column(Record):
    """A judge's answers on n images: counts over the K classes (closed), and over K classes and "no class" (open)."""

    n: int
    closed: tuple[int, ...]
    open: tuple[int, ...]


class ClassCard(Record):
    """One class: hits on real images, how far noise is from them, and the ladder. `worst_noise` is the kind closest to the class.

    Total variation is between the class's column and that of the worst noise; LR+ is the hit rate over the rate at which the worst noise
    for it (most votes for this class) is called the class. `lod` is the smallest a of the ladder from which on the class
    is called surely more often than pure noise is.
    """

    hit: Measure
    hit_open: Measure
    worst_noise: str
    tv: float
    tv_open: float
    lr: Measure
    lr_open: Measure
    ladder: dict[str, Measure]
    ladder_open: dict[str, Measure]
    lod: Measure


class Card(Record):
    """What one judge was measured to do on one data set: `real` columns by class, `panel` columns by kind of noise."""

    version: int
    judge: str
    family: str
    fitted_on: str
    sha: str
    data: str
    temperature: float
    ece: Measure
    hit: Measure
    refused: Measure
    real: tuple[Column, ...]
    panel: dict[str, Column]
    sink: int
    sink_share: Measure
    classes: tuple[ClassCard, ...]


def key(judge: Judge, data: Dataset) -> str:
    """What a card is stored under: it changes with the judge's weights, its calibration, the data and what is measured."""
    wanted = {"version": VERSION, "judge": judge.name, "sha": judge.sha, "temperature": judge.temperature, "data": data.sha256}
    return sha256(canonical(wanted))


def measure(judge: Judge, data: Dataset, *, seed: int = 0) -> Card:
    """The card of `judge` on `data`: about 20,000 images judged for ten classes.

    Raises:
        ValueError: a class has no real image in the `heldout` split.
    """
    images, labels = data.part("heldout")
    truth, classes = labels.numpy(), len(data.classes)
    if any(not bool((truth == k).any()) for k in range(classes)):
        raise ValueError(f"a card needs held-out images of every class of {data.name}")
    votes = judge.judge(images)
    real = tuple(_column(votes.said[truth == k], votes.answered[truth == k], classes) for k in range(classes))
    kinds = panel.kinds(data.shape[0])
    noise = {kind: _of(judge, panel.KINDS[kind](PANEL_N, data.shape, seed, images), classes) for kind in kinds}
    rungs = _ladder(judge, images, truth, classes, seed)
    reference = noise["normal-1"]
    sink = int(np.argmax(reference.closed))
    n, right = len(truth), int((votes.said == truth).sum())
    refused = 0 if votes.abstain is None else int(votes.abstain.sum())
    return Card(
        version=VERSION,
        judge=judge.name,
        family=judge.family,
        fitted_on=judge.fitted_on,
        sha=judge.sha,
        data=data.sha256,
        temperature=judge.temperature,
        ece=ece(votes.probs.max(axis=1), votes.said == truth),
        hit=rate("hit rate on real images", right, n, safer="higher"),
        refused=rate("real images called no class", refused, n)
        if votes.abstain is not None
        else Measure(name="real images called no class", value=None, n=n, note="this judge cannot answer no class"),
        real=real,
        panel=noise,
        sink=sink,
        sink_share=rate("share of N(0, 1) in the sink class", reference.closed[sink], reference.n),
        classes=tuple(_class(k, real[k], noise, rungs[k]) for k in range(classes)),
    )


def _of(judge: Judge, images: Tensor, classes: int) -> Column:
    votes = judge.judge(images)
    return _column(votes.said, votes.answered, classes)


def _column(said: np.ndarray, answered: np.ndarray, classes: int) -> Column:
    closed, opened = np.bincount(said, minlength=classes), np.bincount(answered, minlength=classes + 1)
    return Column(n=len(said), closed=tuple(map(int, closed)), open=tuple(map(int, opened)))


def _ladder(judge: Judge, images: Tensor, truth: np.ndarray, classes: int, seed: int) -> list[dict[float, Column]]:
    """For each class its column on each rung."""
    of_class = [np.flatnonzero(truth == k) for k in range(classes)]
    chosen = [np.resize(rows, min(max(RUNG_N, len(rows)), RUNG_CAP)) for rows in of_class]
    every = torch.from_numpy(np.concatenate(chosen))
    owner = np.repeat(np.arange(classes), [len(c) for c in chosen])
    said, answered = (np.zeros((len(panel.RUNGS), len(every)), dtype=np.int64) for _ in range(2))
    n = max(1, AT_ONCE // images[0].numel())
    for first in range(0, len(every), n):
        rows = slice(first, first + n)
        for rung, shown in enumerate(panel.rungs(images[every[rows]], panel.RUNGS, seed, first=first)):
            votes = judge.judge(shown)
            said[rung, rows], answered[rung, rows] = votes.said, votes.answered
    return [
        {a: _column(said[rung, owner == k], answered[rung, owner == k], classes) for rung, a in enumerate(panel.RUNGS)}
        for k in range(classes)
    ]


def _class(k: int, real: Column, noise: dict[str, Column], rungs: dict[float, Column]) -> ClassCard:
    plain = {kind: column for kind, column in noise.items() if kind in INDEPENDENT}
    worst = min(plain, key=lambda kind: total_variation(np.array(real.closed), np.array(plain[kind].closed)))
    return ClassCard(
        hit=rate("hit rate", real.closed[k], real.n, safer="higher"),
        hit_open=rate("hit rate, no class allowed", real.open[k], real.n, safer="higher"),
        worst_noise=worst,
        tv=total_variation(np.array(real.closed), np.array(plain[worst].closed)),
        tv_open=min(total_variation(np.array(real.open), np.array(column.open)) for column in plain.values()),
        lr=_lr("LR+", real.closed[k], real.n, [(c.closed[k], c.n) for c in plain.values()]),
        lr_open=_lr("LR+, no class allowed", real.open[k], real.n, [(c.open[k], c.n) for c in plain.values()]),
        ladder={f"{a:g}": rate(f"called the class at a = {a:g}", c.closed[k], c.n) for a, c in rungs.items()},
        ladder_open={f"{a:g}": rate(f"called the class at a = {a:g}, no class allowed", c.open[k], c.n) for a, c in rungs.items()},
        lod=limit_of_detection({a: (c.closed[k], c.n) for a, c in rungs.items()}),
    )


def _lr(name: str, hits: int, n: int, noise: Sequence[tuple[int, int]]) -> Measure:
    """Hit rate over the highest noise rate: how much one vote for the class is worth. Its two rates carry the intervals."""
    worst, of = max(noise, key=lambda found: found[0] / found[1])
    if worst == 0:
        least = hits / n / clopper_pearson(0, of)[1]
        return Measure(
            name=name, value=None, n=n, unit="ratio", safer="higher", note=f"no noise image of {of} was called it: above {least:.0f}"
        )
    return Measure(name=name, value=(hits / n) / (worst / of), n=n, unit="ratio", safer="higher")


def limit_of_detection(rungs: dict[float, tuple[int, int]]) -> Measure:
    """The smallest a > 0 from which on every rung is called the class surely more often than a = 0 (95 % bounds that do not meet).

    `rungs` maps a to (hits, n). Not measured where not even real images stand out from noise.
    """
    ceiling = clopper_pearson(*rungs[0.0], confidence=0.9)[1]
    found = None
    for a in sorted((a for a in rungs if a > 0), reverse=True):
        if clopper_pearson(*rungs[a], confidence=0.9)[0] <= ceiling:
            break
        found = a
    n = rungs[0.0][1]
    if found is None:
        return Measure(name="limit of detection", value=None, n=n, unit="a", note="real images are not called it more often than noise")
    return Measure(name="limit of detection", value=found, n=n, unit="a", safer="lower")


def ece(confidence: Floats, right: Bools, *, seed: int = 0) -> Measure:
    """Expected calibration error over 15 bins of equal width, with its bootstrap interval; biased upward in few images.

    Guo et al. (2017), equation 5, https://arxiv.org/abs/1706.04599.
    """
    n = len(right)
    if n < 2:
        return Measure(name="ECE", value=None, n=n, safer="lower", note=f"{n} images: an interval needs two")
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)

    def error(rows: np.ndarray) -> float:
        gap = np.bincount(which[rows], weights=(right[rows] - confidence[rows]), minlength=BINS)
        return float(np.abs(gap).sum() / n)

    rng = np.random.default_rng(seed)
    draws = [error(rng.integers(n, size=n)) for _ in range(1000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    value = error(np.arange(n))
    return Measure(name="ECE", value=value, n=n, low=min(float(low), value), high=max(float(high), value), safer="lower")
