"""A comparison's table: one line for each method, over its classes and training seeds.

With three classes or more a mean's interval is Student's over the classes, since the seeds of a class share its images and its floor; it
is never narrower than the images of each model allow. With fewer classes it holds the images alone and says so.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import t as student

from auditkit.results import Measure
from auditkit_evaluators import recovery, stats

FEW = 3  # classes from which on an interval speaks of classes
Of = Callable[[dict[str, Any]], dict[str, Any] | None]


def standings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record for each entry, in the order of the rows, then one for each floor with its curve alone."""
    entries = list(dict.fromkeys(row["entry"] for row in rows if not row["floor"]))
    floors = list(dict.fromkeys(row["entry"] for row in rows if row["floor"]))
    beside = {f: curves_of([r for r in rows if r["floor"] and r["entry"] == f]) for f in floors}
    made = [_entry(name, [r for r in rows if not r["floor"] and r["entry"] == name], beside) for name in entries]
    return made + [_floor(name, curves) for name, curves in beside.items()]


def curves_of(rows: list[dict[str, Any]]) -> dict[tuple[int, int], Any]:
    """The recovery curves of rows by (class, seed)."""
    return {(r["class"], r["seed"]): r["curve"] for r in rows if r["curve"]}


def _entry(name: str, mine: list[dict[str, Any]], beside: dict[str, dict[tuple[int, int], Any]]) -> dict[str, Any]:
    judges, curves = list(mine[0]["judges"]), curves_of(mine)
    ua = {j: _mean(f"{j}: UA", mine, _ua_of(j), safer="higher") for j in judges}
    lost = {j: _mean(f"{j}: change of retained classes", mine, _lost_of(j), safer="higher") for j in judges}
    least, worst = (min(judges, key=lambda j: (of[j].value is None, of[j].value or 0.0)) for of in (ua, lost))
    own = {r["is_floor"] for r in mine}
    counted = [r["excess"] for r in mine if r["excess"]]
    return {
        "entry": name,
        "floor": False,
        "n": len(mine),
        "models": len({(r["class"], r["model"]) for r in mine}),
        "words": dict(Counter(r["word"] for r in mine)),
        "ua": ua[least].model_dump(),
        "noise_ua": _mean(f"{least}: UA of its matched noise", mine, lambda r: r["judges"][least]["noise_ua"]).model_dump(),
        "h": _mean(f"{least}: H", mine, lambda r: r["judges"][least]["h"], unit="nats").model_dump(),
        "ua_by_judge": {j: m.model_dump() for j, m in ua.items()},
        "lost": lost[worst].model_dump(),
        "lost_by_judge": {j: m.model_dump() for j, m in lost.items()},
        "fidelity": _fidelity(mine),
        "is_floor": own != {None},
        "above_floors": [sum(e["reach"] > 0 for e in counted), len(counted)] if counted and own == {None} else None,
        "against": {f: against(curves, beside[f]) for f in beside if curves and f not in own},
        "curve": _curve(curves),
    }


def _ua_of(judge: str) -> Of:
    return lambda row: row["judges"][judge]["ua"]


def _lost_of(judge: str) -> Of:
    return lambda row: row["retained"].get(judge)


def _floor(name: str, curves: dict[tuple[int, int], Any]) -> dict[str, Any]:
    measured = ("models", "words", "ua", "noise_ua", "h", "ua_by_judge", "lost", "lost_by_judge", "fidelity", "above_floors", "against")
    empty = dict.fromkeys((*measured, "is_floor"))
    return {"entry": name, "floor": True, "n": len(curves), **empty, "curve": _curve(curves)}


def _mean(name: str, rows: list[dict[str, Any]], of: Of, *, unit: str = "share", safer: Any = "neither") -> Measure:
    """The mean of a measure of each model, that measure itself where there is one model; not measured where any model lacks it."""
    known = [((r["class"], r["model"]), m) for r in rows if (m := of(r)) is not None and m["value"] is not None]
    models = {(r["class"], r["model"]) for r in rows}
    if len(known) < len(rows):
        return Measure(name=name, value=None, n=len(models), unit=unit, safer=safer, note="not measured for every model")
    found = [m for _, m in known]
    if len(found) == 1:
        return Measure.model_validate(found[0])
    values = {key: float(np.mean([m["value"] for k, m in known if k == key])) for key in models}
    halves = [((m["high"] - m["low"]) / 2 if m["low"] is not None and m["high"] is not None else 0.0) for m in found]
    own = float(np.sqrt(np.sum(np.square(halves)))) / len(halves)  # the images' part: the independent errors of that many means
    bounds = (0.0, 1.0) if unit == "share" and all(m["low"] >= 0 and m["high"] <= 1 for m in found) else None
    return over_classes(name, values, own=own, unit=unit, safer=safer, bounds=bounds)


def over_classes(
    name: str,
    values: dict[tuple[int, Any], float],
    *,
    own: float,
    unit: str,
    safer: Any = "neither",
    bounds: tuple[float, float] | None = None,
) -> Measure:
    """The mean over classes of the mean of each class's numbers; `own` is half of the interval that the images alone give it."""
    classes = sorted({k for k, _ in values})
    means = np.array([np.mean([v for (c, _), v in values.items() if c == k]) for k in classes])
    half = own
    note: str | None = f"of the images alone: {len(values)} models of {len(classes)} classes say little about others"
    if len(classes) >= FEW:
        half, note = max(own, float(student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))), None
    value = float(means.mean())
    low, high = value - half, value + half
    if bounds:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Measure(name=name, value=value, n=len(values), low=low, high=high, unit=unit, safer=safer, note=note)


def _curve(curves: dict[tuple[int, int], Any]) -> list[dict[str, Any]]:
    """The mean rate at each step that every curve has; a run that diverged has fewer."""
    counts = {key: {step: (hits, n) for step, hits, n in line} for key, line in curves.items()}
    shared = sorted(set.intersection(*(set(line) for line in counts.values()))) if counts else []
    return [{"step": step, "rate": _rate(step, {key: line[step] for key, line in counts.items()})} for step in shared]


def _rate(step: int, counts: dict[tuple[int, int], tuple[int, int]]) -> dict[str, Any]:
    name = f"after {step} steps"
    measures = {key: stats.rate(name, *count) for key, count in counts.items()}
    rows = [{"class": k, "model": s, "m": m.model_dump()} for (k, s), m in measures.items()]
    return _mean(name, rows, lambda r: r["m"]).model_dump()


def against(mine: dict[tuple[int, int], Any], floor: dict[tuple[int, int], Any]) -> dict[str, Any]:
    """Steps to half, as a ratio: the geometric mean of the classes' own (AIN); and the log-rank test, with the class as the unit and, for
    fewer than three of them, every model."""

    a, b = reached(mine), reached(floor)
    late, soon = sum(r.censored for r in a), sum(r.censored for r in b)
    classes = sorted({k for k, _ in mine} & {k for k, _ in floor})  # an attack may have diverged on every model of a class
    sides = [{k: reached(curves, k) for k in classes} for curves in (mine, floor)]
    logs = {(k, 0): log_steps(sides[0][k]) - log_steps(sides[1][k]) for k in classes}
    return {
        "logrank": (recovery.compare_over(*sides) if len(classes) >= FEW else recovery.compare(a, b)).model_dump(),
        "ain": _ain(logs, late, soon).model_dump() if len(classes) >= FEW else recovery.ain(a, b).model_dump(),
        "censored": [late, soon, len(a), len(b)],
    }


def reached(curves: dict[tuple[int, int], Any], k: int | None = None) -> list[recovery.Recovered]:
    """When half of the images showed the class again, for each model (of class k)."""
    chosen = [line for (c, _), line in curves.items() if k is None or c == k]
    return [recovery.steps_to([(step, hits / n) for step, hits, n in line], 1.0) for line in chosen]


def log_steps(found: list[recovery.Recovered]) -> float:
    """The mean of log (1 + step)."""
    return float(np.mean(np.log1p([r.step for r in found])))


def _ain(logs: dict[tuple[int, Any], float], late: int, soon: int) -> Measure:
    """The mean of the classes' log ratios as a ratio; where runs never recovered it is a bound, and the note says of which kind."""
    found = over_classes("log AIN", logs, own=0.0, unit="log ratio")
    value, low, high = (float(np.exp(v)) for v in (found.value, found.low, found.high) if v is not None)
    note = {(True, False): "at least: some of its models never recovered", (False, True): "at most: the floor did not always recover"}
    note |= {(True, True): "neither bound: both sides have runs that never recovered"}
    words = note.get((late > 0, soon > 0))
    return Measure(name="AIN, over classes", value=value, n=len(logs), low=low, high=high, unit="ratio", safer="higher", note=words)


def _fidelity(mine: list[dict[str, Any]]) -> dict[str, Any]:
    names = {m["name"]: m["unit"] for m in mine[0]["fidelity"]}

    def of(name: str) -> Of:
        return lambda r: next((m for m in r["fidelity"] if m["name"] == name), None)

    return {name: _mean(name, mine, of(name), unit=unit).model_dump() for name, unit in names.items()}
