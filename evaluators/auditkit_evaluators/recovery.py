"""How fast a class comes back: steps to recover (censored), two groups of training seeds compared, and the area under the curve.

A seed that never recovers within the budget is censored at its last step: it enters the log-rank test as such and never an average.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import CensoredData, logrank

from auditkit.results import Measure

HALF = 0.5
DRAWS = 2000
ALL_SIGNS = 14  # classes up to which every choice of signs is taken
Curve = Sequence[tuple[int, float]]  # (steps, rate) in order of steps


@dataclass(frozen=True)
class Recovered:
    """The first step at which the curve reached the goal, or the last step where it never did (`censored`)."""

    step: int
    censored: bool


def steps_to(curve: Curve, ceiling: float, tau: float = HALF) -> Recovered:
    """The first point with rate >= tau x ceiling, the rate of the original.

    Raises:
        ValueError: no points, or a ceiling of 0, of which every share is reached at once.
    """
    if not curve or ceiling <= 0:
        raise ValueError(f"expected points and a ceiling above 0, found {len(curve)} points and {ceiling}")
    for step, rate in curve:
        if rate >= tau * ceiling:
            return Recovered(step, censored=False)
    return Recovered(curve[-1][0], censored=True)


def compare(first: Sequence[Recovered], second: Sequence[Recovered]) -> Measure:
    """The p-value of the log-rank test that both groups recover equally fast (Mantel 1966; scipy.stats.logrank), exact only for many
    seeds."""
    n = min(len(first), len(second))
    name = "log-rank p"
    if n < 3:
        return Measure(name=name, value=None, n=n, unit="p", note=f"{n} training seeds: the test needs three of each")
    if all(r.censored for r in (*first, *second)):
        return Measure(name=name, value=None, n=n, unit="p", note="nobody recovered within the budget")
    if len({(r.step, r.censored) for r in (*first, *second)}) == 1:
        return Measure(name=name, value=1.0, n=n, unit="p", note="every seed recovered at the same point")
    return Measure(name=name, value=float(logrank(_data(first), _data(second)).pvalue), n=n, unit="p")


def compare_over(first: Mapping[int, Sequence[Recovered]], second: Mapping[int, Sequence[Recovered]]) -> Measure:
    """The p-value of the log-rank test stratified by class, with the class as the unit: how often the classes' scores with random signs add
    up to as much.

    The models of a class share its images and often its floor, so that a test which takes each for itself says too much. Class by class
    the score is what the first group recovered minus what it would have, were both alike; under that hypothesis its sign is a coin's. No
    p is below 2 / 2^classes.
    """
    classes, name = sorted(first.keys() & second.keys()), "log-rank p, over classes"
    if len(classes) < 3:
        return Measure(name=name, value=None, n=len(classes), unit="p", note=f"{len(classes)} classes: the test needs three")
    scores = np.array([_score(first[k], second[k]) for k in classes])
    if len(classes) <= ALL_SIGNS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(classes))))
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (2**ALL_SIGNS, len(classes)))
        signs[0] = 1  # the sum that was found is one of those that could have been
    enough = np.abs(signs @ scores) >= abs(scores.sum()) - 1e-9  # equal sums may differ by rounding
    return Measure(name=name, value=float(enough.mean()), n=len(classes), unit="p")


def _score(first: Sequence[Recovered], second: Sequence[Recovered]) -> float:
    """Observed minus expected recoveries of the first group, summed over the steps at which anyone recovered (Mantel 1966)."""
    both, total = (*first, *second), 0.0
    for step in {r.step for r in both if not r.censored}:
        at_risk = [[r for r in side if r.step >= step] for side in (first, both)]
        mine, all_ = (sum(r.step == step and not r.censored for r in side) for side in at_risk)
        total += mine - all_ * len(at_risk[0]) / len(at_risk[1])
    return total


def _data(found: Sequence[Recovered]) -> CensoredData:
    return CensoredData(uncensored=[r.step + 1 for r in found if not r.censored], right=[r.step + 1 for r in found if r.censored])


def ain(subject: Sequence[Recovered], control: Sequence[Recovered], *, seed: int = 0) -> Measure:
    """The Anamnesis Index: steps of the subject over steps of the control, 1 + step, geometric means, bootstrap over seeds.

    Chundawat et al., https://arxiv.org/abs/2201.05629. Well below 1: knowledge was left. Where one side is censored the ratio is a
    bound, and the note says of which kind.
    """
    n, name = min(len(subject), len(control)), "AIN"
    if n < 3:
        return Measure(
            name=name, value=None, n=n, unit="ratio", safer="higher", note=f"{n} training seeds: an interval needs three of each"
        )
    a, b = (np.log1p([r.step for r in side]) for side in (subject, control))
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(a, len(a)).mean() - rng.choice(b, len(b)).mean() for _ in range(DRAWS)]
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    late, soon = any(r.censored for r in subject), any(r.censored for r in control)
    note = {(False, False): None, (True, False): "at least: some of the subject's seeds never recovered"}.get((late, soon))
    note = note or ("at most: some of the control's seeds never recovered" if soon and not late else None)
    note = "neither bound: both sides have seeds that never recovered" if late and soon else note
    value = float(np.exp(a.mean() - b.mean()))
    return Measure(name=name, value=value, n=n, low=float(low), high=float(high), unit="ratio", safer="higher", note=note)


def area(curve: Curve, ceiling: float) -> float:
    """The area under rate / ceiling over log(1 + steps), as a share of the whole: 1 if the class was there from the start.

    Raises:
        ValueError: fewer than two points, or a ceiling of 0.
    """
    if len(curve) < 2 or ceiling <= 0:
        raise ValueError(f"expected two points and a ceiling above 0, found {len(curve)} points and {ceiling}")
    x, y = [math.log1p(step) for step, _ in curve], [rate / ceiling for _, rate in curve]
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))
