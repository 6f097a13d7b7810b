"""A comparison's table: one line for each method, over its classes and training seeds.

A mean's interval resamples classes where there are three or more, since the seeds of a class share its images and its floor; else seeds.
"""

from collections import Counter
from typing import Any

import numpy as np

from auditkit.results import Measure
from auditkit_evaluators import recovery, stats

FLOOR = " (floor)"


def standings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record for each entry, in the order of the rows, then one for each floor with its curve alone."""
    names = list(dict.fromkeys(row["entry"] for row in rows))
    curves = {name: {(r["class"], r["seed"]): r["curve"] for r in rows if r["entry"] == name and r["curve"]} for name in names}
    return [_floor(name, curves[name]) if name.endswith(FLOOR) else _entry(name, rows, curves) for name in names]


def _entry(name: str, rows: list[dict[str, Any]], curves: dict[str, dict[tuple[int, int], Any]]) -> dict[str, Any]:
    mine = [r for r in rows if r["entry"] == name]
    judges = list(mine[0]["judges"])
    ua = {j: _mean(f"{j}: UA", mine, lambda r, j=j: r["judges"][j]["ua"], safer="higher") for j in judges}
    lost = {j: _mean(f"{j}: change of retained classes", mine, lambda r, j=j: r["retained"].get(j), safer="higher") for j in judges}
    least, worst = min(judges, key=lambda j: ua[j].value or 0.0), min(judges, key=lambda j: (lost[j].value is None, lost[j].value or 0.0))
    own = {f"{r['is_floor']}{FLOOR}" for r in mine if r["is_floor"]}
    floors = [f for f in curves if f.endswith(FLOOR) and f not in own and curves[name]]
    counted = [r["excess"] for r in mine if r["excess"]]
    return {
        "entry": name,
        "n": len(mine),
        "words": dict(Counter(r["word"] for r in mine)),
        "ua": ua[least].model_dump(),
        "noise_ua": _mean(f"{least}: UA of its matched noise", mine, lambda r: r["judges"][least]["noise_ua"]).model_dump(),
        "h": _mean(f"{least}: H", mine, lambda r: r["judges"][least]["h"], unit="nats").model_dump(),
        "ua_by_judge": {j: m.model_dump() for j, m in ua.items()},
        "lost": lost[worst].model_dump(),
        "fidelity": _fidelity(mine),
        "above_floors": [sum(e["reach"] > 0 for e in counted), len(counted)] if counted else None,
        "against": {f.removesuffix(FLOOR): _against(curves[name], curves[f]) for f in floors},
        "curve": _curve(curves[name]),
    }


def _floor(name: str, mine: dict[tuple[int, int], Any]) -> dict[str, Any]:
    empty = dict.fromkeys(("words", "ua", "noise_ua", "h", "ua_by_judge", "lost", "fidelity", "above_floors", "against"))
    return {"entry": name, "n": len(mine), **empty, "curve": _curve(mine)}


def _mean(name: str, rows: list[dict[str, Any]], of: Any, *, unit: str = "share", safer: Any = "neither") -> Measure:
    """The mean of a measure of each row, that measure itself where there is one row; not measured where any row lacks it."""
    found = [of(r) for r in rows]
    if any(m is None or m["value"] is None for m in found):
        return Measure(name=name, value=None, n=len(found), unit=unit, safer=safer, note="not measured for every model")
    if len(found) == 1:
        return Measure.model_validate(found[0])
    return clustered(name, {(r["class"], r["seed"]): m["value"] for r, m in zip(rows, found, strict=True)}, unit=unit, safer=safer)


def clustered(name: str, values: dict[tuple[int, int], float], *, unit: str, safer: Any = "neither", seed: int = 0) -> Measure:
    """The mean of two or more numbers by (class, seed); its bootstrap interval is over classes where there are three or more, else over
    all of them."""
    classes = sorted({k for k, _ in values})
    groups = [[v for (c, _), v in values.items() if c == k] for k in classes] if len(classes) > 2 else [[v] for v in values.values()]
    means = np.array([np.mean(group) for group in groups])
    drawn = means[np.random.default_rng(seed).integers(0, len(means), (stats.RESAMPLES, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Measure(name=name, value=float(means.mean()), n=len(values), low=low, high=high, unit=unit, safer=safer)


def _curve(mine: dict[tuple[int, int], Any]) -> list[dict[str, Any]]:
    if not mine:
        return []
    steps = [step for step, _, _ in next(iter(mine.values()))]
    return [
        {"step": step, "rate": _rate(f"after {step} steps", {key: line[i][1:] for key, line in mine.items()})}
        for i, step in enumerate(steps)
    ]


def _rate(name: str, counts: dict[tuple[int, int], list[int]]) -> dict[str, Any]:
    if len(counts) == 1:
        return stats.rate(name, *next(iter(counts.values()))).model_dump()
    return clustered(name, {key: hits / n for key, (hits, n) in counts.items()}, unit="share").model_dump()


def _against(mine: dict[tuple[int, int], Any], floor: dict[tuple[int, int], Any]) -> dict[str, Any]:
    """Log-rank and AIN by class and seed together, and the geometric mean of the classes' AIN with an interval over classes."""

    def reached(curves: dict[tuple[int, int], Any], k: int | None = None) -> list[recovery.Recovered]:
        return [
            recovery.steps_to([(step, hits / n) for step, hits, n in line], 1.0) for (c, _), line in curves.items() if k is None or c == k
        ]

    classes = sorted({k for k, _ in mine})
    a, b = reached(mine), reached(floor)
    by_class = {k: recovery.ain(reached(mine, k), reached(floor, k)) for k in classes}
    logs = {(k, 0): float(np.log(m.value)) for k, m in by_class.items() if m.value is not None}
    over = clustered("log AIN", logs, unit="log ratio") if len(logs) > 2 else None
    together = None
    if over is not None and over.low is not None and over.high is not None and over.value is not None:
        value, low, high = (float(np.exp(v)) for v in (over.value, over.low, over.high))
        together = Measure(
            name="AIN, mean of classes", value=value, n=len(logs), low=low, high=high, unit="ratio", safer="higher"
        ).model_dump()
    return {
        "logrank": recovery.compare(a, b).model_dump(),
        "ain": recovery.ain(a, b).model_dump(),
        "ain_over_classes": together,
        "censored": [sum(r.censored for r in a), sum(r.censored for r in b)],
    }


def _fidelity(mine: list[dict[str, Any]]) -> dict[str, Any]:
    names = [m["name"] for m in mine[0]["fidelity"]]
    units = {m["name"]: m["unit"] for m in mine[0]["fidelity"]}

    def of(name: str) -> Any:
        return lambda r: next((m for m in r["fidelity"] if m["name"] == name), None)

    return {name: _mean(name, mine, of(name), unit=units[name]).model_dump() for name in names}
