"""Does it relearn more slowly than a model that never saw the class? Every class, five training seeds, each method beside its floors.

    python benchmarks/relearning.py docs/results/relearning.json [--jobs 2] [--classes 2,3]

Every model and every attack is a run: stopped and started again, it goes on. Judged by two families chosen by their cards; S is the
first point at which the more sceptical of the two sees the class in half of the images in which it sees it in the original's.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from auditkit import data, provenance, stages
from auditkit.results import Measure
from auditkit.stages import source
from auditkit.stages.attack import cell
from auditkit.stages.cell import Console, side_by_side
from auditkit.stages.reporting import over, points, reporters
from auditkit_evaluators import recovery

SEEDS, METHODS = range(5), ("safemax", "random-label", "gradient-ascent")
BUDGET = {"lrs": (5e-4,), "steps": 100, "images": 50, "n": 100}
LR = "lr=0.0005"


def unlearned(method: str, asked: int, seed: int) -> source.Source:
    return source.of_run(stages.unlearn(method, (asked,), seed=seed), "subject")


def calls(jobs: int, classes: list[int]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """One relearning attack for each (model, class, seed); the models are made first."""
    makes = [(stages.unlearn, {"method": m, "classes": (k,), "seed": s}) for m in METHODS for k in classes for s in SEEDS]
    side_by_side(makes, "unlearning", Console(say=say, track=track, jobs=jobs))
    base = source.bundled("digits")
    assert base is not None
    found = {}
    for k in classes:
        for s in SEEDS:
            floor = source.bundled("digits", without=k)
            assert floor is not None
            who = {m: unlearned(m, k, s) for m in METHODS} | {"retrained": floor, "random": source.random_floor(base, s)}
            for name, target in who.items():
                found[name, k, s] = {
                    "name": "relearn",
                    "target": target,
                    "classes": (k,),
                    "data_name": "digits",
                    "params": BUDGET,
                    "seed": s,
                }
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class track:
    """A progress line every tenth call."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total

    def __enter__(self) -> Any:
        return lambda done: say(f"{self.title}: {done}/{self.total}") if done % 10 == 0 else None

    def __exit__(self, *_: object) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--classes", default="0,1,2,3,4,5,6,7,8,9")
    given = parser.parse_args()
    classes = [int(k) for k in given.classes.split(",")]
    todo = calls(given.jobs, classes)
    side_by_side([(cell, call) for call in todo.values()], "relearning", Console(say=say, track=track, jobs=given.jobs))
    dataset, rows = data.load("digits"), []
    names = (*METHODS, "retrained", "random")
    curves: dict[tuple[str, int, int], list[tuple[int, float]]] = {}
    excesses = []
    for k in classes:
        judges, about = reporters(dataset, k, None, 0, Console())
        seen = {(name, s): points(cell(**todo[name, k, s]), judges, k) for name in names for s in SEEDS}
        for (name, s), found in seen.items():
            line = sorted((int(key.split("/")[1]), min(c / n for c, n in by.values())) for key, by in found.said.items())
            curves[name, k, s] = line
            rows.append({"model": name, "class": k, "seed": s, "curve": line, "judges": list(about)})
        for name in METHODS:
            for s in SEEDS:
                excess = over(seen[name, s], {"retrained": seen["retrained", s], "random": seen["random", s]})
                assert excess is not None
                excesses.append(
                    {
                        "model": name,
                        "class": k,
                        "seed": s,
                        "value": excess.value,
                        "low": excess.low,
                        "at": excess.at,
                        "floor": excess.floor,
                        "reach": excess.reach,
                    }
                )
    record = {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "budget": BUDGET,
        "classes": classes,
        "table": table(curves, names),
        "by_class": {str(k): against_retrained(curves, [k]) for k in classes},
        "pooled": against_retrained(curves, classes),
        "over_classes": over_classes({k: against_retrained(curves, [k]) for k in classes}),
        "broken": {m: sum(e["reach"] > 0 for e in excesses if e["model"] == m) for m in METHODS},
        "excess": excesses,
        "rows": rows,
    }
    given.out.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(json.dumps({k: record[k] for k in ("table", "pooled", "over_classes", "broken")}, indent=1))


def table(curves: dict[tuple[str, int, int], list[tuple[int, float]]], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The mean rate over classes and seeds after each number of steps."""
    steps = [s for s, _ in next(iter(curves.values()))]
    lines = {name: [line for (who, _, _), line in curves.items() if who == name] for name in names}
    return {
        name: {str(step): sum(line[i][1] for line in found) / len(found) for i, step in enumerate(steps)} for name, found in lines.items()
    }


def against_retrained(curves: dict[tuple[str, int, int], list[tuple[int, float]]], classes: Any) -> dict[str, dict[str, Any]]:
    """Each method against the retrained and the random floor: log-rank, AIN, and the difference of the areas. The ceiling is 1: the
    original shows the class in 92 to 100 % of its images."""
    found: dict[str, dict[str, Any]] = {}
    for name in METHODS:
        for floor in ("retrained", "random"):
            mine, theirs = ([curves[who, k, s] for k in classes for s in SEEDS] for who in (name, floor))
            a, b = ([recovery.steps_to(line, 1.0) for line in side] for side in (mine, theirs))
            areas = [recovery.area(line, 1.0) for line in mine], [recovery.area(line, 1.0) for line in theirs]
            found[f"{name} / {floor}"] = {
                "logrank": Measure.model_validate(recovery.compare(a, b)).model_dump(),
                "ain": recovery.ain(a, b).model_dump(),
                "area": [sum(side) / len(side) for side in areas],
                "censored": [sum(r.censored for r in a), sum(r.censored for r in b)],
                "n": len(a),
            }
    return found


def over_classes(by_class: dict[int, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The geometric mean of the classes' AIN, its interval a bootstrap over classes: seeds of one class share a retrained model."""
    found, rng = {}, np.random.default_rng(0)
    for name in next(iter(by_class.values())):
        logs = np.log([each[name]["ain"]["value"] for each in by_class.values()])
        drawn = logs[rng.integers(0, len(logs), (10_000, len(logs)))].mean(axis=1)
        low, high = np.exp(np.quantile(drawn, [0.025, 0.975])).tolist()
        found[name] = {"ain": float(np.exp(logs.mean())), "low": low, "high": high, "above_1": int((logs > 0).sum()), "classes": len(logs)}
    return found


if __name__ == "__main__":
    main()
