"""One plain sentence per judge: what it says about the images, beside what it says about noise."""

from collections.abc import Sequence

import numpy as np

from auditkit.results import Measure
from auditkit_evaluators.cards import Card
from auditkit_evaluators.examine import BLIND, HISTOGRAM, MARGIN, Controls, Excess, Reading
from auditkit_evaluators.stats import rate
from auditkit_evaluators.surrogates import SURROGATES


def sentence(reading: Reading, over: Excess, card: Card, controls: Controls, classes: Sequence[str]) -> str:
    """ "svc: calls 412 of 500 images 'one' (82 % [79, 86]), and 81 % of matched noise (histogram) too: ..."

    It says the class is there, or not more of it than in noise, or that noise explains the UA, or that n is too small to tell;
    and it warns when the judge misses half of the real images of that class.
    """
    if reading.n == 0:
        return f"{reading.judge}: not measured: no images"
    noise = controls[over.noise]
    name = classes[reading.asked]
    head = f"{reading.judge}: calls {reading.votes[reading.asked]} of {reading.n} images {name!r} ({_text(reading.hit)})"
    kind = "the surrogates" if over.noise in SURROGATES else "matched noise"
    floor = f"{_share(noise.hit)} of {kind} ({over.noise})"
    points = _points(over.difference)
    low, high = over.difference.low or 0.0, over.difference.high or 0.0
    if over.explained_by_noise:
        said = f", and {floor} too: its UA of {_share(reading.ua)} says what this judge calls noise, not that the class is there"
    elif over.present:
        said = f" against {floor}: {points}, the class is there"
    elif low > 0:
        said = f" against {floor}: {points}, more than in noise but too little to say that the class is there"
    elif high <= MARGIN:
        votes = controls[HISTOGRAM].votes
        most = int(np.argmax(votes))
        sink = f"; it calls noise {classes[most]!r} ({_share(rate('sink', votes[most], sum(votes)))})"
        said = f", and {floor}: no more of the class than noise holds{sink}"
    else:
        said = f" against {floor}: {points}, undecided at this number of images"
    return head + said + _blind(card.classes[reading.asked].hit) + "."


def _blind(real: Measure) -> str:
    if real.value is None:
        return " (how well it knows real images of the class was not measured: none is held out)"
    return f" (it knows only {_text(real)} of the real ones)" if real.value < BLIND else ""


def _text(share: Measure) -> str:
    """One decimal under 10 %: an interval [0, 1] would hide what 500 images can exclude."""
    return share.text(0 if share.value is None or share.value >= 0.1 else 1)


def _share(share: Measure) -> str:
    return _text(share).partition(" [")[0]


def _points(d: Measure) -> str:
    if d.value is None or d.low is None or d.high is None:
        return "not measured"
    return f"{100 * d.value:+.0f} points [{100 * d.low:.0f}, {100 * d.high:.0f}]"
