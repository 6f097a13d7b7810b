"""All that one judge has to say about one set of images: its card, its reading, the controls, the mixture, and what it sees."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import fisher_exact

from auditkit.results import Measure, Record
from auditkit_evaluators.cards import Card, Column
from auditkit_evaluators.examine import BLIND, HISTOGRAM, MARGIN, Controls, Excess, Reading, above, excess
from auditkit_evaluators.mixture import Shares, shares, total_variation

CLEAN = 0.02  # the share that a clean class must surely exceed
MORE = 0.01  # one-sided level of the veto on NO CLASS
APART = 0.3  # total variation below which a judge cannot tell a class from noise: its mixture estimate spans half of 0..1


class Evidence(Record):
    """One judge on one set, asked about one class. `seen` maps a class to how it was seen: "clean" or "degraded"; `claim` is the
    excess over the controls with an interval that holds for all judges together. `able`: the classes that it is informative about
    and whose answers no control of these images draws, so that clean images of them would be seen. `answers_more`: it answers the
    class, with "no class" allowed, more often than to any control, if only in a few images: too little to be seen, too much to call
    absent.
    """

    judge: str
    family: str
    reading: Reading
    controls: dict[str, Reading]
    excess: Excess
    claim: Measure
    share: Measure
    shares: tuple[float, ...] | None
    seen: dict[int, str]
    informative: bool
    able: tuple[int, ...]
    answers_more: bool
    note: str | None
    tv: float
    tv_open: float | None
    lod: Measure


def gather(reading: Reading, card: Card, controls: Controls, classes: Sequence[str], *, judges: int, seed: int = 0) -> Evidence:
    """What a judge's reading amounts to beside its card and its controls, when `judges` judges claim together.

    Raises:
        ValueError: a card or controls of another judge or class, or no histogram noise among the controls.
    """
    asked = reading.asked
    if card.judge != reading.judge or HISTOGRAM not in controls:
        raise ValueError(
            f"expected the card of {reading.judge} and its controls with {HISTOGRAM}, found one of {card.judge}, {[*controls]}"
        )
    over = excess(reading, controls)
    mixed = _mixture(reading, card, controls, seed)
    claims = {k: 2 * judges * (1 if k == asked else len(classes) - 1) for k in range(len(classes))}
    seen: dict[int, str] = {}
    for k in range(len(classes)):
        if mixed is not None and mixed.surely_above(k, CLEAN, claims[k]) and _tells(card.real[k], controls):
            seen[k] = "clean"
    first = _degraded(reading, controls, claims)
    if first is not None:
        seen.setdefault(first, "degraded")
    notes = [_uninformative(card, controls[HISTOGRAM], k) for k in range(len(classes))]
    tv, tv_open = _from_noise(card.real[asked], controls[HISTOGRAM])
    return Evidence(
        judge=reading.judge,
        family=reading.family,
        reading=reading,
        controls=controls,
        excess=over,
        claim=above(reading, controls, asked, claims=judges)[0],
        share=_share(mixed, asked, reading),
        shares=None if mixed is None else tuple(float(v) for v in mixed.value[: len(classes)]),
        seen=seen,
        informative=notes[asked] is None,
        able=tuple(k for k, note in enumerate(notes) if note is None and _tells(card.real[k], controls)),
        answers_more=_answers_more(reading, controls),
        note=notes[asked],
        tv=tv,
        tv_open=tv_open,
        lod=card.classes[asked].lod,
    )


def _from_noise(real: Column, noise: Reading) -> tuple[float, float | None]:
    """Total variation between the votes on real images of a class and on histogram noise: without "no class", and with it."""
    if not noise.n:
        return 0.0, None
    opened = None if noise.answers is None else total_variation(np.array(real.open), np.array(noise.answers))
    return total_variation(np.array(real.closed), np.array(noise.votes)), opened


def _uninformative(card: Card, noise: Reading, k: int) -> str | None:
    """Why the judge's silence about class `k` counts for nothing, or None where it counts."""
    tv, tv_open = _from_noise(card.real[k], noise)
    hit = card.classes[k].hit.value or 0.0
    if (tv if tv_open is None else tv_open) < APART:
        return "this judge cannot tell this class from noise"
    return f"this judge knows only {100 * hit:.0f} % of real images of this class" if hit < BLIND else None


def _mixture(reading: Reading, card: Card, controls: Controls, seed: int) -> Shares | None:
    """Shares of each class and then of each control in the images, from the answers with "no class" where there are any."""
    if reading.n < 2:
        return None
    made = [control for control in controls.values() if control.n]
    if reading.answers is None:
        return shares(
            np.array(reading.votes), np.array([c.closed for c in card.real] + [c.votes for c in made]), asked=reading.asked, seed=seed
        )
    return shares(
        np.array(reading.answers), np.array([c.open for c in card.real] + [c.answers for c in made]), asked=reading.asked, seed=seed
    )


def _answers_more(reading: Reading, controls: Controls) -> bool:
    """One-sided Fisher test at .01 against each control: 8 real images among 500 of noise, against none, have p = .004."""

    def count(r: Reading) -> int:
        return (r.votes if r.answers is None else r.answers)[r.asked]

    made = [c for c in controls.values() if c.n]
    if not made or not reading.n:
        return False
    tables = [[[count(reading), reading.n - count(reading)], [count(c), c.n - count(c)]] for c in made]
    return all(float(fisher_exact(t, alternative="greater").pvalue) < MORE for t in tables)


def _tells(real: Column, controls: Controls) -> bool:
    """Whether real images of a class draw other answers than every control does: between equal columns EM stays where it starts."""
    pairs = [(real.closed, c.votes) if c.answers is None else (real.open, c.answers) for c in controls.values() if c.n]
    return all(total_variation(np.array(ours), np.array(theirs)) >= APART for ours, theirs in pairs)


def _share(mixed: Shares | None, asked: int, reading: Reading) -> Measure:
    name = f"{reading.judge}: share of class {asked} in the mixture"
    if mixed is None:
        return Measure(name=name, value=None, n=reading.n, safer="lower", note=f"{reading.n} images: an estimate needs two")
    value, low, high = (float(x[asked]) for x in (mixed.value, mixed.low, mixed.high))
    return Measure(name=name, value=value, n=reading.n, low=low, high=high, safer="lower")


def _degraded(reading: Reading, controls: Controls, claims: dict[int, int]) -> int | None:
    """The class that exceeds its controls most, if it surely does by more than the margin, with "no class" ignored."""
    if reading.n < 2:
        return None
    forms = [form for form in controls.values() if form.n]
    gain = [votes / reading.n - max(form.votes[k] / form.n for form in forms) for k, votes in enumerate(reading.votes)]
    first = int(np.argmax(gain))
    if gain[first] <= MARGIN:
        return None
    over, _ = above(reading, controls, first, claims=claims[first])
    return first if over.low is not None and over.low > MARGIN else None
