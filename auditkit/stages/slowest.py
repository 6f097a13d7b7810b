"""Which method is relearned slowest, of those that keep the rest: later than each of the others, or not surely."""

import itertools
from typing import Any

import numpy as np

from auditkit.stages.standings import against, curves_of, log_steps, reached

ALLOWED = 0.01  # share of the other classes that a method may lose, unless --matched-fidelity says another
Curves = dict[tuple[int, int], Any]


def slowest(rows: list[dict[str, Any]], table: list[dict[str, Any]], allowed: float | None) -> dict[str, Any] | None:
    """The entry with the most steps to half among those of a table that do not surely lose more than `allowed` of the rest, beside each of
    the others; None where fewer than two can be compared. `within` are those that surely do not lose more, by every judge: a wide interval
    is in neither list. Entries without a curve in every class or a known loss are `unknown`.

    `holm` is the log-rank p adjusted for all pairs, not those of the slowest alone: it was chosen by the same curves.
    """
    allowed = ALLOWED if allowed is None else allowed
    lines = [s for s in table if not s["floor"] and not s["is_floor"]]
    curves = {s["entry"]: curves_of([r for r in rows if not r["floor"] and r["entry"] == s["entry"]]) for s in lines}
    classes = {k for mine in curves.values() for k, _ in mine}
    known = [s for s in lines if s["lost"]["high"] is not None and {k for k, _ in curves[s["entry"]]} == classes != set()]
    kept = [s["entry"] for s in known if s["lost"]["high"] >= -allowed]
    within = [s["entry"] for s in known if all(m["low"] is not None and m["low"] >= -allowed for m in s["lost_by_judge"].values())]
    if len(kept) < 2:
        return None
    first = max(kept, key=lambda name: _slow(curves[name]))
    pairs = {
        pair: against(curves[pair[0]], curves[pair[1]]) for pair in itertools.combinations([first, *(k for k in kept if k != first)], 2)
    }
    adjusted = _holm({pair: found["logrank"]["value"] for pair, found in pairs.items()})
    return {
        "entry": first,
        "allowed": allowed,
        "within": within,
        "pairs": len(pairs),
        "against": {pair[1]: {**found, "holm": adjusted.get(pair)} for pair, found in pairs.items() if pair[0] == first},
        "left_out": [s["entry"] for s in known if s["entry"] not in kept],
        "unknown": [s["entry"] for s in lines if s not in known],
    }


def _slow(curves: Curves) -> tuple[float, int]:
    """The classes' mean log steps to half, and how many models never got there within the budget."""
    steps = [log_steps(reached(curves, k)) for k in sorted({k for k, _ in curves})]
    return float(np.mean(steps)), sum(r.censored for r in reached(curves))


def _holm(p: dict[tuple[str, str], float | None]) -> dict[tuple[str, str], float]:
    """Holm's adjusted p-values (1979); what was not measured counts as a comparison and has none."""
    found: dict[tuple[str, str], float] = {}
    least = 0.0
    for rank, (pair, value) in enumerate(sorted(((n, v) for n, v in p.items() if v is not None), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(p) - rank) * value))
        found[pair] = least
    return found
