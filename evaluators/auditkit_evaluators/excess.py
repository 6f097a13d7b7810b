"""How much more an attack brings back from the subject than from models that never saw the class, by every judge that reports.

A point's excess is the smallest over judges and floors: what one judge alone sees, or one floor alone lacks, is no recovery. And one
of the judges has to see it clean, with "no class" among its answers: judges of pixels call some grey textures "2" in 62 % of cases
that all of them would rather refuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditkit_evaluators import stats

Count = tuple[int, int]  # k of n
Points = Mapping[str, Mapping[str, Count]]  # "<setting>/<step>" to judge to (k, n)
MARGIN = 0.05  # of the images: what is called broken above it, and equivalent below it
FAMILY = 64  # more claims than any suite makes together


@dataclass(frozen=True)
class Excess:
    """The point whose excess has the largest lower bound: its value and interval, simultaneous over the attack's points.

    `upper` is the largest upper bound over all points and judges, of the excess over the highest floor. `reach` is how many claims
    may be made together (Bonferroni) with this one still surely above the margin; 0 if not even alone. `clean`: a judge sees it with
    "no class" allowed.
    """

    value: float
    low: float
    high: float
    upper: float
    n: int
    at: str
    judge: str
    floor: str
    reach: int
    clean: bool = True


def headline(subject: Points, floors: Mapping[str, Points], *, margin: float = MARGIN) -> Excess | None:
    """The excess of one attack, or None where subject and floors share no point."""
    shared = [key for key in subject if all(key in points for points in floors.values())] if floors else []
    if not shared:
        return None

    def least(key: str, claims: int) -> tuple[float, float, float, int, str, str]:
        """(low, value, high, n, judge, floor) of the judge and floor with the smallest lower bound."""
        rows = []
        for judge, count in subject[key].items():
            for floor, points in floors.items():
                m = stats.difference(key, *count, *points[key][judge], comparisons=claims)
                if m.low is not None and m.high is not None and m.value is not None:
                    rows.append((m.low, m.value, m.high, m.n, judge, floor))
        return min(rows)

    found = {key: least(key, len(shared)) for key in shared}
    best = max(shared, key=lambda key: found[key][0])
    low, value, high, n, judge, floor = found[best]
    upper = max(_upper(subject[key], {f: points[key] for f, points in floors.items()}, len(shared)) for key in shared)
    reach = 0
    if low > margin:
        alone, most = 1, FAMILY
        while alone < most:  # the largest number of claims with some point still above the margin
            half = (alone + most + 1) // 2
            above = max(least(key, len(shared) * half)[0] for key in shared) > margin
            alone, most = (half, most) if above else (alone, half - 1)
        reach = alone
    return Excess(value=value, low=low, high=high, upper=upper, n=n, at=best, judge=judge, floor=floor, reach=reach)


def witnessed(found: Excess | None, subject: Points, floors: Mapping[str, Points], *, margin: float = MARGIN) -> Excess | None:
    """`found` with its reach cut to what one judge sees clean; `subject` and `floors` count answers with "no class" allowed.

    Empty points mean that nobody judged (an attack that measures): then there is nothing to witness.
    """
    if found is None or not subject or found.reach == 0:
        return found
    judges = {judge for by in subject.values() for judge in by}
    alone = [headline(_of(judge, subject), {f: _of(judge, points) for f, points in floors.items()}, margin=margin) for judge in judges]
    reach = max((e.reach for e in alone if e is not None), default=0) // max(1, len(judges))
    return replace(found, reach=min(found.reach, reach), clean=reach > 0)


def _of(judge: str, points: Points) -> Points:
    return {key: {judge: by[judge]} for key, by in points.items() if judge in by}


def _upper(counts: Mapping[str, Count], floors: Mapping[str, Mapping[str, Count]], claims: int) -> float:
    """The largest upper bound over the judges, each against the floor that explains most."""
    highs = []
    for judge, count in counts.items():
        over = [stats.difference(judge, *count, *points[judge], comparisons=claims).high for points in floors.values()]
        highs.append(min(h for h in over if h is not None))
    return max(highs)


def broken(found: Mapping[str, Excess]) -> set[str]:
    """The attacks whose excess is surely above the margin, all of these claims together at 95 % (Holm 1979)."""
    claimed: set[str] = set()
    for k, name in enumerate(sorted(found, key=lambda a: -found[a].reach)):
        if found[name].reach < len(found) - k:
            break
        claimed.add(name)
    return claimed


def pooled(counts: Sequence[Count]) -> Count:
    """Several training seeds as one count of as many independent images as they are worth.

    Images of one trained model are alike: where the seeds differ by more than chance, n shrinks by the ratio of the two variances
    (the design effect of Rao and Scott, 1992, https://doi.org/10.2307/2532311).
    """
    k, n = sum(a for a, _ in counts), sum(b for _, b in counts)
    p = k / n if n else 0.0
    if len(counts) < 2 or p in (0.0, 1.0):
        return k, n
    between = sum((a - p * b) ** 2 for a, b in counts) * len(counts) / (len(counts) - 1) / n**2
    effect = max(1.0, between / (p * (1 - p) / n))
    worth = max(len(counts), int(np.floor(n / effect)))
    return round(p * worth), worth
