"""What a judge says about images, and what it says about real images and about noise: UA never stands alone.

UA = 1 - share of images whose argmax is the asked class; H = mean over images of the entropy of each softmax, in nats (both
as in SA's and SalUn's classifier_evaluation.py). A judge that calls pure noise "one" makes every model look as if it
remembers class "one"; so each rate is set against the same judge's rate on matched noise, in one sentence.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from auditkit.data import Dataset
from auditkit.results import Measure, Record
from auditkit_evaluators.stats import difference, entropy, mean_measure, paired_difference, rate
from auditkit_evaluators.votes import Judge

HISTOGRAM = "histogram"  # the form of noise made by matched.matched; every card has it

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
    """One judge on one set of images: `said` holds its class for each image, -1 where it abstained, `votes` their counts.

    Images on which it abstained count in `n` and in no class.
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
    votes: tuple[int, ...]
    said: tuple[int, ...]


class Card(Record):
    """What one judge was itself measured to do: on real held-out images, and on each form of matched noise."""

    judge: str
    family: str
    fitted_on: str
    temperature: float
    real: Measure
    real_class: Measure
    noise: dict[str, Reading]
    sink: int
    sink_share: Measure


class Excess(Record):
    """The class rate on some images minus the highest rate on matched noise, `noise` naming that form.

    `explained_by_noise`: the judge calls the images and the noise the class alike, so its UA is a property of the judge.
    `present`: it finds the class clearly more often than in noise. Both False: neither can be said.
    """

    judge: str
    noise: str
    difference: Measure
    explained_by_noise: bool
    present: bool


def read(judge: Judge, images: Tensor, asked: int, name: str, classes: Sequence[str]) -> Reading:
    """The judge's votes on uint8 `images` (B, C, H, W), called `name`, asked about class `asked`. No images: not measured.

    Raises:
        ValueError: wrong images, a class that does not exist, or a judge of another number of classes.
    """
    if not 0 <= asked < len(classes):
        raise ValueError(f"expected a class 0 to {len(classes) - 1}, found {asked}")
    votes = judge.judge(images)
    if votes.probs.shape != (len(images), len(classes)):
        raise ValueError(f"{judge.name}: expected probabilities {(len(images), len(classes))}, found {votes.probs.shape}")
    said = votes.probs.argmax(axis=1)
    said = said if votes.abstain is None else np.where(votes.abstain, -1, said)
    counts, n = np.bincount(said[said >= 0], minlength=len(classes)), len(images)
    hits, h = int(counts[asked]), entropy(votes.probs)
    return Reading(
        judge=judge.name,
        family=judge.family,
        images=name,
        asked=asked,
        n=n,
        hit=rate("hit", hits, n, safer="lower"),
        ua=rate("UA", n - hits, n, safer="higher"),
        entropy=mean_measure("H", h, unit="nats", safer="higher"),
        entropy_share=mean_measure("H / ln K", h / math.log(len(classes)), unit="share", safer="higher"),
        votes=tuple(int(c) for c in counts),
        said=tuple(int(c) for c in said),
    )


def card(judge: Judge, data: Dataset, asked: int, noise: dict[str, Tensor]) -> Card:
    """The card of `judge` for class `asked`: hits on the `heldout` split, votes on each form of matched noise (uint8 images).

    Raises:
        ValueError: the form "histogram" (matched.matched of the audited images) is not among `noise`, or holds no images.
    """
    if HISTOGRAM not in noise or len(noise[HISTOGRAM]) == 0:
        raise ValueError(f"expected noise images under {HISTOGRAM!r}, found {', '.join(noise) or 'no noise at all'}")
    images, labels = data.part("heldout")
    right = judge.judge(images).probs.argmax(axis=1) == labels.numpy()
    of_class = (labels == asked).numpy()
    readings = {form: read(judge, x, asked, form, data.classes) for form, x in noise.items()}
    votes = readings[HISTOGRAM].votes
    sink = int(np.argmax(votes))
    return Card(
        judge=judge.name,
        family=judge.family,
        fitted_on=judge.fitted_on,
        temperature=judge.temperature,
        real=rate("hit rate on real images", int(right.sum()), len(right)),
        real_class=rate(f"hit rate on real images of class {asked}", int(right[of_class].sum()), int(of_class.sum())),
        noise=readings,
        sink=sink,
        sink_share=rate("share of matched noise in the sink class", votes[sink], len(noise[HISTOGRAM])),
    )


def excess(reading: Reading, card: Card) -> Excess:
    """`reading` against the form of noise that `card`'s judge calls the class most often; simultaneous over the forms compared.

    Forms that the sampler made from the seeds of the images (any but "histogram", of equal n) are compared image by image
    and are preferred: they are the closest match, and an unlearned model agrees with them on 96 % of its pixels.

    Raises:
        ValueError: they are of two judges or of two classes.
    """
    asked = reading.asked
    if reading.judge != card.judge or any(noise.asked != asked for noise in card.noise.values()):
        raise ValueError(f"expected the card of {reading.judge} for class {asked}, found one of {card.judge} or of another class")
    same_seeds = [form for form in card.noise.values() if form.images != HISTOGRAM and form.n == reading.n > 0]
    forms = same_seeds or [form for form in card.noise.values() if form.n]
    floor = max(forms, key=lambda form: form.votes[asked] / form.n)
    name = f"{reading.judge}: class {asked} above matched noise ({floor.images})"
    if same_seeds:
        ours, noise = np.array(reading.said) == asked, np.array(floor.said) == asked
        over = paired_difference(name, ours, noise, comparisons=len(forms))
    else:
        over = difference(name, reading.votes[asked], reading.n, floor.votes[asked], floor.n, comparisons=len(forms))
    low, high = (-1.0 if over.low is None else over.low), (1.0 if over.high is None else over.high)
    return Excess(
        judge=reading.judge,
        noise=floor.images,
        difference=over,
        explained_by_noise=_low(reading.hit) > NOISE_RATE and _low(floor.hit) > NOISE_RATE and low <= MARGIN and high <= ALIKE,
        present=low > MARGIN,
    )


def _low(measure: Measure) -> float:
    return 0.0 if measure.low is None else measure.low
