"""What a judge says about images, beside what it says about noise of the same make: UA never stands alone.

UA = 1 - share of images whose argmax is the asked class; H = mean over images of the entropy of each softmax, in nats (both
as in SA's and SalUn's classifier_evaluation.py). A judge that calls pure noise "one" makes every model look as if it
remembers class "one"; so each rate is set against the same judge's rate on controls of the same images: matched noise, and
surrogates that keep an image's pixels or its spectrum.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from auditkit.results import Measure, Record
from auditkit_evaluators.stats import difference, entropy, mean_measure, paired_difference, rate
from auditkit_evaluators.surrogates import SURROGATES
from auditkit_evaluators.votes import Judge, Votes

HISTOGRAM = "histogram"  # the form of noise made by matched.matched; every set of images has it

# A judge that calls at most one noise image in twenty the class cannot explain a UA that anybody would publish as a failure.
NOISE_RATE = 0.05
# A smaller excess is not called presence: 500 images know a rate near one half to +-4.5 points, and noise is never matched exactly.
MARGIN = 0.05
# "Alike" has to be shown, by the upper bound. Two equal rates (500 images, 500 of one form of noise; 600 simulations) show it
# within 5 points in 51 % (rate .8) and 34 % (.5) of audits, within 10 points in 98 % and 87 %; three forms of 2,000: 99 and 95 %.
ALIKE = 0.1
# A judge that misses every second real image of the class says nothing by not finding it.
BLIND = 0.5


class Reading(Record):
    """One judge on one set of images: `said` holds its closed-set class of each image, `votes` their counts over K classes, and
    `answers` those over K classes and "no class", or None if it cannot say that. UA and `hit` ignore "no class", as the field does.
    """

    judge: str
    family: str
    images: str
    asked: int
    n: int
    hit: Measure
    ua: Measure
    entropy: Measure
    entropy_share: Measure
    entropy_of_mean: Measure
    refused: Measure
    similarity: Measure | None
    votes: tuple[int, ...]
    answers: tuple[int, ...] | None
    said: tuple[int, ...] | None


class Excess(Record):
    """The class rate on some images minus the highest rate on their controls, `noise` naming that control.

    `explained_by_noise`: the judge calls the images and the noise the class alike, so its UA is a property of the judge.
    `present`: it finds the class clearly more often than in noise. Both False: neither can be said.
    """

    judge: str
    noise: str
    difference: Measure
    explained_by_noise: bool
    present: bool


Controls = dict[str, Reading]


def read(judge: Judge, images: Tensor, asked: int, name: str, classes: Sequence[str]) -> Reading:
    """The judge's votes on uint8 `images` (B, C, H, W), called `name`, asked about class `asked`. No images: not measured.

    Raises:
        ValueError: wrong images, a class that does not exist, or a judge of another number of classes.
    """
    return read_all(judge, {name: images}, asked, classes)[name]


def read_all(judge: Judge, sets: dict[str, Tensor], asked: int, classes: Sequence[str]) -> dict[str, Reading]:
    """`read` of each of several sets by name, judged together. Raises what it raises."""
    if not 0 <= asked < len(classes):
        raise ValueError(f"expected a class 0 to {len(classes) - 1}, found {asked}")
    found = judge.each([*sets.values()])
    return {name: _reading(judge, votes, len(sets[name]), asked, name, classes) for name, votes in zip(sets, found, strict=True)}


def _reading(judge: Judge, votes: Votes, n: int, asked: int, name: str, classes: Sequence[str]) -> Reading:
    if votes.probs.shape != (n, len(classes)):
        raise ValueError(f"{judge.name}: expected probabilities {(n, len(classes))}, found {votes.probs.shape}")
    counts = np.bincount(votes.said, minlength=len(classes))
    hits, h = int(counts[asked]), mean_measure("H", entropy(votes.probs), unit="nats", safer="higher")
    answers = None if votes.abstain is None else np.bincount(votes.answered, minlength=len(classes) + 1)
    spread = float(entropy(votes.probs.mean(axis=0, keepdims=True))[0]) if n else None
    return Reading(
        judge=judge.name,
        family=judge.family,
        images=name,
        asked=asked,
        n=n,
        hit=rate("hit", hits, n, safer="lower"),
        ua=rate("UA", n - hits, n, safer="higher"),
        entropy=h,
        entropy_share=_relative(h, math.log(len(classes))),
        entropy_of_mean=Measure(name="H of the mean", value=spread, n=n, unit="nats", note=None if n else "no images"),
        refused=rate("no class", int(answers[-1]), n)
        if answers is not None
        else Measure(name="no class", value=None, n=n, note="this judge cannot answer no class"),
        similarity=None
        if votes.similarity is None
        else mean_measure("cosine to the class's captions", votes.similarity[:, asked], unit="cosine", safer="lower"),
        votes=tuple(int(c) for c in counts),
        answers=None if answers is None else tuple(int(c) for c in answers),
        said=tuple(int(c) for c in votes.said),
    )


def _relative(h: Measure, most: float) -> Measure:
    """H and its interval as a share of ln K: drawn once."""
    parts = {key: None if x is None else x / most for key, x in (("value", h.value), ("low", h.low), ("high", h.high))}
    return h.model_copy(update={"name": "H / ln K", "unit": "share", **parts})


def excess(reading: Reading, controls: Controls) -> Excess:
    """`reading` against the control that its judge calls the class most often; simultaneous over the controls compared.

    Raises:
        ValueError: no control, or they are of two judges or of two classes.
    """
    asked = reading.asked
    if not controls or any(control.judge != reading.judge or control.asked != asked for control in controls.values()):
        raise ValueError(f"expected controls of {reading.judge} for class {asked}, found none, or those of another judge or class")
    over, floor = above(reading, controls, asked)
    low, high = (-1.0 if over.low is None else over.low), (1.0 if over.high is None else over.high)
    return Excess(
        judge=reading.judge,
        noise=floor.images,
        difference=over,
        explained_by_noise=_low(reading.hit) > NOISE_RATE and _low(floor.hit) > NOISE_RATE and low <= MARGIN and high <= ALIKE,
        present=low > MARGIN,
    )


def above(reading: Reading, controls: Controls, label: int, claims: int = 1) -> tuple[Measure, Reading]:
    """How much more often class `label` is voted than in the control where it is voted most, and that control.

    Controls with one image for each image (surrogates; the sampler's noise from the same seeds) are compared image by image. Where the
    sampler made some, histogram noise is left out: they are the closer match (96 % of the pixels of an unlearned model's output).
    The interval holds for `claims` times as many comparisons as there are controls (Bonferroni).
    """
    forms = [form for form in controls.values() if form.n]
    if any(form.images not in (HISTOGRAM, *SURROGATES) and form.n == reading.n > 0 for form in forms):
        forms = [form for form in forms if form.images != HISTOGRAM]
    if not forms or not reading.n:
        missing = Measure(name=f"{reading.judge}: class {label} above its controls", value=None, n=0, safer="lower", note="no images")
        return missing, next(iter(controls.values()))
    floor = max(forms, key=lambda form: form.votes[label] / form.n)
    name = f"{reading.judge}: class {label} above {floor.images}"
    comparisons = claims * len(forms)
    if floor.images != HISTOGRAM and floor.n == reading.n:
        ours, theirs = np.array(reading.said) == label, np.array(floor.said) == label
        return paired_difference(name, ours, theirs, comparisons=comparisons), floor
    return difference(name, reading.votes[label], reading.n, floor.votes[label], floor.n, comparisons=comparisons), floor


def _low(measure: Measure) -> float:
    return 0.0 if measure.low is None else measure.low
