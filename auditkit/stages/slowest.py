"""Which method is relearned slowest, of those that keep the rest: later than each of the others, or not surely."""

from typing import Any

import numpy as np

from auditkit.stages.standings import against, curves_of, log_steps, reached

ALLOWED = 0.01  # share of the other classes that a method may lose, unless --matched-fidelity says another


def slowest(rows: list[dict[str, Any]], table: list[dict[str, Any]], allowed: float | None) -> dict[str, Any] | None:
    """The entry with the most steps to half among those of a table that do not surely lose more than `allowed` of the rest, beside each of
    the others; None where fewer than two were attacked. `holm` is the log-rank p adjusted for that many comparisons."""
    allowed = ALLOWED if allowed is None else allowed
    curves = {s["entry"]: curves_of([r for r in rows if not r["floor"] and r["entry"] == s["entry"]]) for s in table if not s["floor"]}
    lost = {s["entry"]: s["lost"]["high"] for s in table if not s["floor"] and not s["is_floor"] and curves[s["entry"]]}
    kept = [name for name, high in lost.items() if high is not None and high >= -allowed]
    if len(kept) < 2:
        return None
    first = max(kept, key=lambda name: _slow(curves[name]))
    others = {name: against(curves[first], curves[name]) for name in kept if name != first}
    adjusted = _holm({name: found["logrank"]["value"] for name, found in others.items()})
    beside = {name: {**found, "holm": adjusted.get(name)} for name, found in others.items()}
    return {"entry": first, "allowed": allowed, "against": beside, "left_out": sorted(set(lost) - set(kept))}


def _slow(curves: dict[tuple[int, int], Any]) -> tuple[float, int]:
    """The classes' mean log steps to half, and how many models never got there within the budget."""
    steps = [log_steps(reached(curves, k)) for k in sorted({k for k, _ in curves})]
    return float(np.mean(steps)), sum(r.censored for r in reached(curves))


def _holm(p: dict[str, float | None]) -> dict[str, float]:
    """Holm's adjusted p-values (1979); what was not measured counts as a comparison and has none."""
    found: dict[str, float] = {}
    least = 0.0
    for rank, (name, value) in enumerate(sorted(((n, v) for n, v in p.items() if v is not None), key=lambda pair: pair[1])):
        least = max(least, min(1.0, (len(p) - rank) * value))
        found[name] = least
    return found
