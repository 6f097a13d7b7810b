"""A suite: every attack of a list on the subject and its controls, judged by two families, and one verdict on how deep the class lies."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from auditkit import data, pictures, rundir, training
from auditkit.stages import flags, positive
from auditkit.stages.attack import CURVE, FLOORS, Case, cell, found, needs
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.heldout import coverages
from auditkit.stages.lineup import Lineup, count_of, lineup
from auditkit.stages.pooling import Key, curves_of, recovery_of, together, trains
from auditkit.stages.reporting import Seen, over, points, reporters
from auditkit.stages.sample import IMAGES, images
from auditkit.stages.selftest import known
from auditkit_attacks import ATTACKS, SUITES, module_of
from auditkit_attacks.target import TIERS
from auditkit_evaluators import stats
from auditkit_evaluators.durability import Finding, durability
from auditkit_evaluators.excess import MARGIN, Excess, broken

SUITE, PICTURE, GRID = "suite.json", "suite.png", "grid.png"
COLUMNS, WORST = 16, 3
VERSION = 9  # of a suite's record


def suite(
    name: str,
    *,
    model: str | None = None,
    original: str | None = None,
    data_name: str = "digits",
    classes: tuple[int, ...] | None = None,
    judge_weights: str | None = None,
    seeds: int | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Runs a suite; it has no settings but the number of training seeds (1 for quick, 5 for the others)."""
    dataset = data.load(data_name)
    made = lineup(name, model, original, dataset, classes, seeds, seed, console)
    panel, about = reporters(dataset, made.case.classes[0], judge_weights, 0, console)  # refused before anything is spent
    side_by_side([(cell, call) for call in made.calls.values()], f"{name}: {len(made.calls)} attacks", console)
    runs = {key: found(call) for key, call in made.calls.items()}
    says, planted = known(made.case.classes[0], dataset)
    params = {"seeds": count_of(name, seeds), "judges": about, "validated": says, "planted": planted}
    request = suite_request(name, made.case, dataset, seed, params, {key: run.digest for key, run in runs.items()})

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        seen = {key: points(cell_run, panel.judges, made.case.classes[0]) for key, cell_run in runs.items()}
        control = positive.of_case(panel, made.case.original, made.case.subject, made.case.classes, seed, console)
        record = _record(name, made, runs, seen, dataset, says, count_of(name, seeds))
        record |= {"judges": about, "planted": planted}
        record |= {"control": control.model_dump(), "flags": flags.raised(record, made.case, runs, about, dataset, control)}
        run.write_json(SUITE, _decided(record, name))
        title = f"{made.case.subject.name}, class {record['class']}, {name}: {record['verdict']['word']}"
        run.write(PICTURE, pictures.bars(excesses(record), title, MARGIN))
        run.write(GRID, pictures.grid(_examples(record, runs, seed), title=title))
        return made.case.given | {"seconds": seconds_of(runs)}

    done = compute(request, work, console)
    rundir.point("latest", done)
    return done


def suite_request(name: str, case: Case, dataset: data.Dataset, seed: int, params: dict[str, Any], cells: dict[Key, str]) -> rundir.Request:
    """What decides a suite, and so its name; `cells` holds the digest of each cell, `params` the seeds, the judges and what vouches for
    the attacks."""
    return rundir.Request(
        stage="suite",
        method=name,
        classes=case.classes,
        seed=seed,
        params={**params, "version": VERSION},
        parents={"model": case.subject.digest, **{"/".join(map(str, key)): digest for key, digest in cells.items()}},
        data=dataset.sha256,
    )


def seconds_of(runs: dict[Key, rundir.Run]) -> dict[str, float]:
    """How long each attack on the subject took, the first training seed: beside the result, since it is no part of a digest."""
    first = min(runs)[0]
    return {attack: run.result.seconds for (seed, attack, role), run in runs.items() if (seed, role) == (first, "subject")}


def _record(
    name: str,
    made: Lineup,
    runs: dict[Key, rundir.Run],
    seen: dict[Key, Seen],
    dataset: data.Dataset,
    says: dict[str, bool],
    seeds: int,
) -> dict[str, Any]:
    """Everything but flags and verdict: one row for each attack, with every role's rates and the subject's excess."""
    rows, excesses = [], {}
    for attack in SUITES[name]:
        measures = module_of(attack).TIER == "measure"
        keys = {r: [k for k in runs if k[1:] == (attack, r)] for r in {k[2] for k in runs if k[1] == attack}}
        models = {r: [runs[k].request.parents["model"] for k in listed] for r, listed in keys.items()}
        roles = {r: together([seen[k] for k in listed], models[r], same=measures) for r, listed in keys.items()}
        curves = {k: run.read_json(CURVE) for k, run in runs.items() if k[1] == attack and k[2] == "subject"}
        failed = [c["failed"] for c in curves.values() if c["failed"] and not roles["subject"].said]
        failed += [f"not measured: the {f} floor failed" for f in FLOORS if f in roles and not roles[f].said]
        counted = getattr(module_of(attack), "FLOORS", FLOORS)
        floors = {f: roles[f] for f in counted if f in roles and roles[f].said}
        excess = None if failed else over(roles["subject"], floors)
        if excess is not None:
            excesses[attack] = excess
        rows.append(_row(attack, roles, curves, excess, failed, bool(floors), says))
    whole = broken(excesses)
    for row in rows:
        row["broken"] = row["attack"] in whole
        row["recovery"] = recovery_of(row["attack"], seen)
        first = {role: run for (s, a, role), run in runs.items() if a == row["attack"] and s == min(runs)[0]}
        row["coverage"] = coverages(first, row["at"], dataset, made.case.classes)
    return {
        "suite": name,
        "subject": made.case.subject.name,
        "classes": list(made.case.classes),
        "class": dataset.classes[made.case.classes[0]],
        "seeds": seeds,
        "subjects": len({call["target"].digest for key, call in made.calls.items() if key[2] == "subject"}),
        "margin": MARGIN,
        "rows": rows,
        "missing": made.rest,
        "models": {key[2]: call["target"].name for key, call in made.calls.items()},
        "scope": scope(name),
    }


def _row(
    attack: str,
    roles: Mapping[str, Seen],
    curves: dict[Key, dict[str, Any]],
    excess: Excess | None,
    failed: list[str],
    floors: bool,
    says: dict[str, bool],
) -> dict[str, Any]:
    module, first = module_of(attack), next(iter(curves.values()))
    at = excess.at if excess else next(iter(roles["subject"].said), "")
    shown = {
        role: {judge: stats.rate(f"{role}, {judge}", *count, safer="lower").model_dump() for judge, count in points.said[at].items()}
        for role, points in roles.items()
        if at in points.said
    }
    clean = {role: {j: k / n for j, (k, n) in points.clean[at].items()} for role, points in roles.items() if at in points.clean}
    return {
        "attack": attack,
        "tier": module.TIER,
        "adaptive": getattr(module, "ADAPTIVE", False),
        "validated": says.get(attack),
        "at": at,
        "chosen": first.get("chosen", ""),
        "rates": shown,
        "clean": clean,
        "excess": asdict(excess) if excess else None,
        "why": failed[0] if failed else "" if excess else "no floor was run" if not floors else "no point in common",
        "cost": first.get("cost"),
        "kept": first.get("kept"),
        "notes": first.get("notes", []),
        "curves": curves_of(roles, at) if trains(attack) else {},
        "measures": first.get("measures", []),
    }


def scope(name: str) -> str:
    """Which tiers were tried, with which attacks, and which attacks were not."""
    tried = [
        f"{tier} ({', '.join(a for a in SUITES[name] if tier == module_of(a).TIER)})"
        for tier in TIERS
        if any(tier == module_of(a).TIER for a in SUITES[name])
    ]
    left = [a for a in ATTACKS if a not in SUITES[name]]
    return f"tried at {'the longer' if name == 'full' else 'their default'} budgets: {'; '.join(tried)}" + (
        f". Not tried: {', '.join(left)}" if left else ""
    )


def _decided(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The record with its verdict."""
    findings = [
        Finding(
            attack=row["attack"],
            tier=row["tier"],
            broken=row["broken"],
            upper=row["excess"]["upper"] if row["excess"] else None,
            adaptive=row["adaptive"],
            validated=bool(row["validated"]),
            cost=(row["cost"]["forget_images"], row["cost"]["evaluations"]) if row["cost"] else (0, 0),
            why=row["why"],
            beside_retrained="retrained" in row["rates"],
            pictures="pictures" in needs(row["attack"]),
        )
        for row in record["rows"]
        if row["attack"] not in DIAGNOSTIC
    ]
    tiers = {a: module_of(a).TIER for a in ATTACKS if a not in DIAGNOSTIC}
    unfit = [flag["text"] for flag in record["flags"] if flag["unfit"]]
    control, plain = record["control"], next((row for row in record["rows"] if row["attack"] == ASKING), None)
    if not control["passed"] and not (plain and plain["broken"]):  # what is shown when asked is there, whatever the original shows
        findings = [replace(f, broken=False) for f in findings]
    record["verdict"] = asdict(durability(findings, seeds=record["subjects"], wanted=tiers, unfit=unfit))
    return record


def _examples(record: dict[str, Any], runs: dict[Key, rundir.Run], seed: int) -> list[tuple[str, Tensor]]:
    """What a user gets, and the worst attacks: the subject's first images beside those of the same attack on the floors."""
    drawn = [row for row in record["rows"] if row["excess"] and IMAGES in runs[seed, row["attack"], "subject"].result.files]
    worst = sorted(drawn, key=lambda row: -row["excess"]["low"])[:WORST]
    shown = [row for row in drawn if row["attack"] == "repeat" and row not in worst] + worst
    rows: list[tuple[str, Tensor]] = []
    for row in shown:
        for role in ("subject", *FLOORS):
            run = runs.get((seed, row["attack"], role))
            made = images(run) if run is not None and IMAGES in run.result.files else {}
            if row["at"] in made:
                rows.append((f"{row['attack']},\n{role}", made[row["at"]][:COLUMNS]))
    return rows or [("nothing", torch.zeros(1, 1, 8, 8, dtype=torch.uint8))]


ASKING = "repeat"  # the attack that only asks, again and again
DIAGNOSTIC = ("weights",)  # says where the edit is, not that the class came back


def excesses(record: dict[str, Any]) -> list[pictures.Bar]:
    """Attack, excess, its interval, and whether it is broken, for the picture."""
    found_rows = [(row["attack"], row["excess"], row["broken"]) for row in record["rows"]]
    return [(name, e["value"], e["low"], e["high"], b) if e else (name, None, None, None, False) for name, e, b in found_rows]
