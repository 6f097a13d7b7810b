"""The selftest: every attack against leaks planted for it, beside the same attack on a model that never saw the class.

Broken is: the lower 95 % bound of (rate on the plant minus rate on the clean control) lies above 5 points, on every reporting judge.
Each MUST is one claim; the clean controls are attacked a second time with other seeds, and tested against each other: that must not
be broken.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from auditkit import data, rundir, training
from auditkit.errors import UserError, choose
from auditkit.stages import source
from auditkit.stages.attack import Case, call_of, cell, found
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.reporting import Seen, over, points, reporters
from auditkit.stages.scan import scan
from auditkit.stages.train import make_params
from auditkit_attacks import ATTACKS, BUDGETS, module_of, plants
from auditkit_attacks.expected import EXPECTED

SELFTEST = "selftest.json"
APART = 10**6  # between the seeds of a plant and of its clean control
VERSION = 5  # of the rules by which rows are judged


def selftest(
    attacks: tuple[str, ...] = tuple(ATTACKS),
    *,
    data_name: str = "digits",
    seeds: int = 1,
    label: int = 2,
    all_plants: bool = False,
    console: Console = SILENT,
) -> rundir.Run:
    """Runs the table attack x plant for `seeds` seeds, planting in class `label`; `all_plants` fills in the MAY cells too.

    A leak that is easy to find in one digit is hidden in another: a model that never saw an eight draws blends of the other digits that
    look like eights, and 8 of 26 MUSTs are missed there. So an attack is validated for a class.
    """
    dataset = data.load(data_name)
    for name in attacks:
        choose("attack", name, ATTACKS)
    base = source.bundled(dataset.name)
    if base is None:
        raise UserError(f"the selftest plants leaks in a bundled model, and {data_name} has none: run it on digits")
    dataset.check_labels((label,))
    asked = label
    jobs: dict[tuple[int, str, str], dict[str, Any]] = {}
    for seed in range(seeds):
        for attack in attacks:
            wanted = [p for p in plants.PLANTS if all_plants or p in EXPECTED[attack]]
            for plant in wanted:
                jobs[seed, attack, plant] = _call(
                    attack, source.planted(plant, base, asked, dataset.spec, seed), base, asked, dataset, seed
                )
            clean = source.bundled(dataset.name, without=asked)
            assert clean is not None
            for key, apart in (("clean", APART), ("again", 2 * APART)):
                jobs[seed, attack, key] = _call(attack, clean, base, asked, dataset, seed + apart)
    side_by_side([(cell, call) for call in jobs.values()], f"selftest: {len(jobs)} attacks on planted and clean models", console)
    runs = {key: found(call) for key, call in jobs.items()}
    request = selftest_request(attacks, dataset, seeds, label, all_plants, {key: run.digest for key, run in runs.items()})

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        rows = []
        panel, about = reporters(dataset, asked, None, 0, console)
        for seed in range(seeds):
            for attack in attacks:
                seen = {key: points(runs[seed, attack, key], panel.judges, asked) for s, a, key in jobs if (s, a) == (seed, attack)}
                for key in (k for k in seen if k != "clean"):
                    rows.append(
                        {"seed": seed, "class": asked, "attack": attack, "plant": key, **_row(seen[key], seen["clean"], attack, key)}
                    )
            rows.append({"seed": seed, "class": asked, "attack": "scan", "plant": "ema-residue", **_scanned(base, asked, dataset, seed)})
        run.write_json(SELFTEST, {"rows": rows, "validated": validated(rows, (*attacks, "scan")), "judges": about, "seeds": seeds})
        return {}

    return compute(request, work, console)


def selftest_request(
    attacks: tuple[str, ...], dataset: data.Dataset, seeds: int, label: int, all_plants: bool, cells: dict[tuple[int, str, str], str]
) -> rundir.Request:
    """What decides a selftest, and so its name; `cells` holds the digest of each (seed, attack, plant)."""
    return rundir.Request(
        stage="selftest",
        method="all" if set(attacks) == set(ATTACKS) else "some",
        role="index",
        classes=(label,),
        seed=seeds,
        params={"version": VERSION, "attacks": list(attacks), "label": label, "plants": plants.VERSION, "all": all_plants},
        parents={"/".join(map(str, key)): digest for key, digest in cells.items()},
        data=dataset.sha256,
    )


def _call(attack: str, who: source.Source, base: source.Source, asked: int, dataset: data.Dataset, seed: int) -> dict[str, Any]:
    """The call of one cell: the budget that suites give it; the loss is SAFEMax's, since a plant declares none."""
    budget = make_params(module_of(attack).Budget, BUDGETS.get(attack, {}))
    call = call_of(attack, Case(who, base, (asked,)), dataset, budget, seed)  # plants are made where they are attacked: some are trained
    from auditkit.unlearn import safemax

    declared = {"method": "safemax", "params": asdict(safemax.Params())}
    return {**call, "declared": declared if call["declared"] is not None or attack == "reversal" else None}


def _scanned(base: source.Source, asked: int, dataset: data.Dataset, seed: int) -> dict[str, Any]:
    """`scan` on a checkpoint whose raw weights never saw the class and whose average is still the original."""
    clean = source.bundled(dataset.name, without=asked)
    assert clean is not None
    sets = {"weights": clean.load().net.state_dict(), "average": base.load().net.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        save_file({f"{name}/{key}": t.cpu().contiguous() for name, state in sets.items() for key, t in state.items()}, path)
        still = scan(str(path), (asked,), original=str(base.folder), data_name=dataset.spec, seed=seed)["still"]
    named = [name.split(": ")[1] for name in still]
    right = "average/" in named and "weights/" not in named
    return {"kind": "MUST", "why": "the average is the original", "broken": right, "excess": None}


def _row(on_plant: Seen, on_clean: Seen, attack: str, plant: str) -> dict[str, Any]:
    found_here = over(on_plant, {"clean": on_clean})
    kind, why = EXPECTED[attack].get(plant, ("MAY", "")) if plant != "again" else ("CLEAN", "clean against clean")
    if found_here is None:
        return {"kind": kind, "why": why, "broken": False, "excess": None}
    return {"kind": kind, "why": why, "broken": found_here.reach > 0, "excess": asdict(found_here)}


def validated(rows: list[dict[str, Any]], attacks: tuple[str, ...]) -> dict[str, bool]:
    """Whether an attack met each of its MUSTs, and broke nothing that it cannot break or that is clean, in every seed."""
    mine = {a: [r for r in rows if r["attack"] == a and r["kind"] != "MAY"] for a in attacks}
    return {a: all(r["broken"] == (r["kind"] == "MUST") for r in found_rows) for a, found_rows in mine.items()}


def known(asked: int, dataset: data.Dataset) -> tuple[dict[str, bool], dict[str, int]]:
    """What finished selftests say of each attack, and the class that was planted in: `asked` where there is one of it, else another.

    Of several in one class that with the most seeds counts, then the latest. Plants in another data set count as another class, -1.
    """
    runs = [
        run
        for run in rundir.finished("selftest-")
        if (run.request.params["plants"], run.request.params.get("version")) == (plants.VERSION, VERSION)
    ]
    says: dict[str, bool] = {}
    planted: dict[str, int] = {}
    for run in sorted(runs, key=lambda r: (_class_of(r, dataset) == asked, r.request.seed, r.result.finished)):
        found = rundir.read(run.path).read_json(SELFTEST)["validated"]
        says |= found
        planted |= dict.fromkeys(found, _class_of(run, dataset))
    return says, planted


def _class_of(run: rundir.Run, dataset: data.Dataset) -> int:
    return int(run.request.params["label"]) if run.request.data == dataset.sha256 else -1
