"""The hypotheses H1 to H6 and H8 of docs/attacks.md, on digits, class 2, five training seeds (H7 is benchmarks/relearning.py).

    python benchmarks/hypotheses.py docs/results/hypotheses.json [--jobs 2]

Models and attacks are runs: stopped and started again, it goes on.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from auditkit import data, provenance, stages
from auditkit.stages import source
from auditkit.stages.attack import CURVE, cell
from auditkit.stages.cell import Console, side_by_side
from auditkit.stages.reporting import Seen, over, points, reporters
from auditkit_evaluators import recovery, stats
from auditkit_evaluators.excess import Points, pooled

from relearning import say, track  # isort: skip

ASKED, SEEDS = 2, range(5)
CORNERS = [{"retain_class_dropout": r, "forget_class_dropout": f} for r in (0.0, 0.1) for f in (0.0, 0.1)]
LAMBDAS = [{"lam": lam, "psi_normalise": p} for lam in (0.0, 1.0, 5.0, 10.0) for p in (False, True)]
LONG = {"steps": 1000, "lrs": (5e-4,)}
FEW = {"lrs": (5e-4,), "images": 10}
MANY = {"lrs": (5e-4,), "images": 50}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    console = Console(say=say, track=track, jobs=given.jobs)
    settings = [{}, *CORNERS, *LAMBDAS]
    makes = [(stages.unlearn, {"method": "safemax", "classes": (ASKED,), "params": p, "seed": s}) for p in settings for s in SEEDS]
    side_by_side(makes, "unlearning", console)
    todo: dict[tuple[str, str, int], dict[str, Any]] = {}

    def add(name: str, who: str, attack: str, params: dict[str, Any]) -> None:
        for s in SEEDS:
            target = model(who, s)
            todo[name, who, s] = {"name": attack, "target": target, "classes": (ASKED,), "data_name": "digits", "params": params, "seed": s}

    for who in (*(json.dumps(p) for p in CORNERS), "original", "retrained", "random"):
        add("H1 harvest", who, "null-harvest", {})
        add("H1 likelihood", who, "null-likelihood", {})
        add("H8", who, "membership", {})
    for who in (*(json.dumps(p) for p in LAMBDAS), "original", "retrained", "random"):
        add("H2 handoff", who, "handoff", {})
        add("H2 readout", who, "readout", {})
        add("rescale", who, "rescale", {})
    for who in ("{}", "original", "retrained", "random"):
        add("H3", who, "finetune", LONG)
        add("H4 10", who, "relearn", FEW)
        add("H4 50", who, "relearn", MANY)
        add("H5", who, "inversion", {})
        add("H6", who, "quantise", {"explore": 100})
    side_by_side([(cell, call) for call in todo.values()], "attacks", console)
    judges, about = reporters(data.load("digits"), ASKED, None, 0, Console())
    runs = {key: cell(**call) for key, call in todo.items()}
    seen = {key: points(run, judges, ASKED) for key, run in runs.items()}
    said = {key: found.said for key, found in seen.items()}
    record = {"commit": provenance.commit(), "versions": provenance.versions(), "judges": about, "seeds": len(SEEDS)}
    record["attacks"] = {name: of(name, seen) for name in dict.fromkeys(key[0] for key in todo)}
    record["H4 recovery"] = {name: recovered(name, said) for name in ("H4 10", "H4 50")}
    record["H6 by bits"] = {who: bits(runs, who) for who in ("{}", "original", "retrained", "random")}
    given.out.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(json.dumps({k: v for k, v in record.items() if k != "versions"}, indent=1))


def model(who: str, seed: int) -> source.Source:
    """A control, or SAFEMax with the settings that `who` spells."""
    base, floor = source.bundled("digits"), source.bundled("digits", without=ASKED)
    assert base is not None
    assert floor is not None
    controls = {"original": base, "retrained": floor, "random": source.random_floor(base, seed)}
    if who in controls:
        return controls[who]
    return source.of_run(stages.unlearn("safemax", (ASKED,), params=json.loads(who), seed=seed), "subject")


def together(name: str, who: str, seen: dict[tuple[str, str, int], Seen]) -> Seen:
    """The points of all seeds as one."""
    found = [seen[name, who, s] for s in SEEDS]
    digests = [model(who, s).digest for s in SEEDS]
    return Seen(pool([x.said for x in found], digests), pool([x.clean for x in found], digests))


def pool(found: list[Points], digests: list[str]) -> Points:
    """Pooled with the design effect; of those points that every seed has."""
    keys = [key for key in found[0] if all(key in points_ for points_ in found)]
    return {key: {judge: pooled([points_[key][judge] for points_ in found], digests) for judge in found[0][key]} for key in keys}


def of(name: str, seen: dict[tuple[str, str, int], Seen]) -> dict[str, Any]:
    """For each model the rate at its worst point by the more sceptical judge, and its excess over the higher of two floors."""
    floors = {who: together(name, who, seen) for who in ("retrained", "random")}
    found = {}
    for who in dict.fromkeys(key[1] for key in seen if key[0] == name):
        mine = together(name, who, seen)
        excess = None if who in floors else over(mine, floors)
        rates = {
            key: min((stats.rate(key, *count).model_dump() for count in by.values()), key=lambda m: m["value"])
            for key, by in mine.said.items()
        }
        worst = max(rates, key=lambda key: rates[key]["value"])
        row: dict[str, Any] = {"rate": {k: rates[worst][k] for k in ("value", "low", "high", "n")}, "at": worst}
        if excess is not None:
            row["excess"] = asdict(excess)
        if len(rates) <= 3:
            row["points"] = {key: [m["value"], m["low"], m["high"], m["n"]] for key, m in rates.items()}
        row["by_seed"] = [max(min(k / n for k, n in by.values()) for by in seen[name, who, s].said.values()) for s in SEEDS]
        row["clean"] = {j: k / n for j, (k, n) in mine.clean.get(worst, {}).items()}
        found[who] = row
    return found


def recovered(name: str, seen: dict[tuple[str, str, int], Points]) -> dict[str, Any]:
    """Steps to recover of SAFEMax against each floor."""

    def lines(who: str) -> list[list[tuple[int, float]]]:
        return [
            sorted((int(key.split("/")[1]), min(k / n for k, n in by.values())) for key, by in seen[name, who, s].items()) for s in SEEDS
        ]

    mine, out = [recovery.steps_to(line, 1.0) for line in lines("{}")], {}
    for floor in ("retrained", "random"):
        theirs = [recovery.steps_to(line, 1.0) for line in lines(floor)]
        steps = {"subject": [[r.step, r.censored] for r in mine], "floor": [[r.step, r.censored] for r in theirs]}
        out[floor] = {**steps, "ain": recovery.ain(mine, theirs).model_dump(), "logrank": recovery.compare(mine, theirs).model_dump()}
    return out


def bits(runs: dict[tuple[str, str, int], Any], who: str) -> dict[str, list[float]]:
    """Rates by bit width, by the attacker's judge, one number for each seed."""
    found: dict[str, list[float]] = {}
    for s in SEEDS:
        for p in runs["H6", who, s].read_json(CURVE)["curve"]:
            if p["setting"] != "chosen":
                found.setdefault(p["setting"], []).append(p["hits"] / p["n"])
    return found


if __name__ == "__main__":
    main()
