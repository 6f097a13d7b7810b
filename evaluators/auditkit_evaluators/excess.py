"""How much more an attack brings back from the subject than from models that never saw the class, by every judge that reports.

A point's excess is the smallest over judges and floors: what one judge alone sees, or one floor alone lacks, is no recovery. And one
of the judges has to see it clean, with "no class" among its answers: judges of pixels call some grey textures "2" in 62 % of cases
that all of them would rather refuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    may be made together (Bonferroni) with this one still surely above the margin; 0 if not even alone. `clean`: not
    just a trace in images that every judge would rather call no class.
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


def headline(
    subject: Points,
    floors: Mapping[str, Points],
    *,
    clean: tuple[Points, Mapping[str, Points]] | None = None,
    margin: float = MARGIN,
) -> Excess | None:
    """The excess of one attack, or None where subject and floors share no point.

    `clean` holds the same counts with "no class" allowed: where it is given, a point breaks only if at that very point one judge sees it so
    (Bonferroni over the judges). What is measured without a judge has none.
    """
    shared = [key for key in subject if all(key in points for points in floors.values())] if floors else []
    if not shared:
        return None

    def least(key: str, claims: int) -> tuple[float, float, float, int, str, str]:
        """(low, value, high, n, judge, floor) of the judge and floor with the smallest lower bound."""
        return min(_rows(subject[key], {f: points[key] for f, points in floors.items()}, claims))

    def sure(key: str, claims: int) -> bool:
        """Whether both judges put the point above the margin, and one of them with "no class" allowed."""
        if least(key, claims)[0] <= margin:
            return False
        if clean is None:
            return True
        own, theirs = clean
        rows = _rows(own[key], {f: points[key] for f, points in theirs.items()}, claims * len(own[key]))
        return any(min(row[0] for row in rows if row[4] == judge) > margin for judge in own[key])

    found = {key: least(key, len(shared)) for key in shared}
    best = max(shared, key=lambda key: (sure(key, len(shared)), found[key][0]))
    low, value, high, n, judge, floor = found[best]
    reach = 0
    if sure(best, len(shared)):
        reach, most = 1, FAMILY
        while reach < most:  # the largest number of claims with some point still above the margin
            half = (reach + most + 1) // 2
            holds = any(sure(key, len(shared) * half) for key in shared)
            reach, most = (half, most) if holds else (reach, half - 1)
    upper = max(_upper(subject[key], {f: points[key] for f, points in floors.items()}, len(shared)) for key in shared)
    seen = reach > 0 or low <= margin
    return Excess(value=value, low=low, high=high, upper=upper, n=n, at=best, judge=judge, floor=floor, reach=reach, clean=seen)


def _rows(
    counts: Mapping[str, Count], floors: Mapping[str, Mapping[str, Count]], claims: int
) -> list[tuple[float, float, float, int, str, str]]:
    """(low, value, high, n, judge, floor) of every judge against every floor."""
    rows = []
    for judge, count in counts.items():
        for floor, points in floors.items():
            m = stats.difference(judge, *count, *points[judge], comparisons=claims)
            if m.low is not None and m.high is not None and m.value is not None:
                rows.append((m.low, m.value, m.high, m.n, judge, floor))
    return rows


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


def pooled(counts: Sequence[Count], models: Sequence[str]) -> Count:
    """Several cells as one count of as many independent images as they are worth; `models` says which trained model each is of.

    Images of one trained model are alike: where models differ by more than chance, n shrinks by the ratio of the two variances (the
    design effect of Rao and Scott, 1992, https://doi.org/10.2307/2532311). Several attacks on one model say nothing about other
    models.
    """
    merged: dict[str, Count] = {}
    for (k, n), model in zip(counts, models, strict=True):
        a, b = merged.get(model, (0, 0))
        merged[model] = (a + k, b + n)
    groups = list(merged.values())
    k, n = sum(a for a, _ in groups), sum(b for _, b in groups)
    p = k / n if n else 0.0
    if len(groups) < 2 or p in (0.0, 1.0):
        return k, n
    between = sum((a - p * b) ** 2 for a, b in groups) * len(groups) / (len(groups) - 1) / n**2
    effect = max(1.0, between / (p * (1 - p) / n))
    worth = max(len(groups), int(np.floor(n / effect)))
    return round(p * worth), worth


def averaged(counts: Sequence[Count]) -> Count:
    """Several measurements of the same images as one: the mean count, of those images."""
    return round(sum(k for k, _ in counts) / len(counts)), counts[0][1]
