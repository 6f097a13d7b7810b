"""Methods side by side: the same classes, seeds, images, judges and attack for each, and one table.

Every model, evaluation and attack is a run of its own, so a comparison that was stopped goes on, and a method that joins costs only itself.
"""

from collections.abc import Sequence
from typing import Any

from auditkit import data, pictures, rundir, training
from auditkit.errors import UserError, choose
from auditkit.results import Measure, requested
from auditkit.stages import source
from auditkit.stages.attack import Case, call_of, cell, found, needs
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.choice import Choice, counts_of
from auditkit.stages.entries import Entry, entry, fit
from auditkit.stages.evaluate import EVALUATION, evaluate
from auditkit.stages.matching import SEED, matched
from auditkit.stages.reporting import over, points, reporters
from auditkit.stages.slowest import slowest
from auditkit.stages.standings import standings
from auditkit.stages.train import find_original, make_params, retrain, unlearn
from auditkit_attacks import ATTACKS, module_of
from auditkit_evaluators.excess import Points

COMPARISON, TRADE, CURVES = "comparison.json", "tradeoff.png", "curves.png"
VERSION = 7
RELEARN = {"lrs": (5e-4,), "steps": 100, "images": 50, "n": 100}
LOST = "change of the retained classes, points, by the judge that sees most"
FLOORS = ("retrained", "random")
FLOOR_LINES = {f: f"{f} (floor)" for f in FLOORS}  # no label may end so (entries.py)
Cell = tuple[str, int, int]  # entry, class, seed


def compare(
    methods: Sequence[str],
    classes: tuple[int, ...],
    *,
    seeds: int = 1,
    attack: str | None = "relearn",
    budget: dict[str, Any] | None = None,
    judges: tuple[str, ...] = ("ensemble", "clip"),
    protocol: str = "clean",
    judge_weights: str | None = None,
    counts: dict[str, Any] | None = None,
    data_name: str = "digits",
    original: str | None = None,
    fidelity: float | None = None,
    preset: str | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Unlearns each class by each method with `seeds` training seeds, judges and attacks every model beside its floors.

    `fidelity`: every method may cost the other classes that share (matching.py). `preset` names whose published numbers stand beside.
    """
    entries, dataset = check(methods, classes, data_name, attack), data.load(data_name)
    fitted = None if attack is None else budget_of(attack, budget)
    how = counts_of(counts or {}, protocol)
    Choice(judges=judges, protocol=protocol, judge_weights=judge_weights).check(dataset)
    start, ids = find_original(data_name, original), range(seed, seed + seeds)
    choice = None
    if fidelity is not None:
        if SEED in ids:
            raise UserError(f"seed {SEED} chooses the settings of --matched-fidelity: report with another --seed than {seed}")
        entries, choice = matched(entries, classes, fidelity, start, dataset, original, console)
    cells = [(e.name, k, s) for e in entries for k in classes for s in ids]
    about: dict[str, Any] = {
        "judges": judges,
        "protocol": protocol,
        "data_name": dataset.spec,
        "original": original,
        "judge_weights": judge_weights,
    }
    subjects = _models(entries, cells, start, dataset, original, console)
    floors = {k: _floor(start, dataset, k, original, console) for k in classes} if attack else {}
    judged = _judged(subjects, start, {**about, **how}, console)
    calls = {} if attack is None else _calls(attack, fitted, subjects, floors, start, dataset, classes, ids)
    if calls:
        side_by_side([(cell, call) for call in calls.values()], f"attack {attack} on {len(calls)} models", console)
    attacked = {key: found(call) for key, call in calls.items()}
    made_of = {("evaluate", *key): run.digest for key, run in judged.items()}
    made_of |= {("attack", *key): run.digest for key, run in attacked.items()}
    params = {"seeds": seeds, "attack": attack, "matched": choice, "preset": preset}
    request = compare_request(entries, classes, params, start, dataset, made_of, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        rows = [_row(key, judged[key], subjects[key]) for key in cells]
        chosen = _recover(rows, attacked, dataset, judge_weights, console) if attacked else {}
        table = standings(rows)
        record = {"data": dataset.name, "classes": list(classes), "seeds": list(ids), "attack": attack, "judges": chosen}
        record |= {"matched": choice, "preset": preset, "protocol": protocol}
        failed = {row["class"]: row["control"]["why"] for row in rows if not row["floor"] and not row["control"]["passed"]}
        record |= {"without_control": [failed[k] for k in sorted(failed)]}
        ranked = None if failed else slowest(rows, table, fidelity)
        run.write_json(COMPARISON, {**record, "standings": table, "slowest": ranked, "rows": rows})
        run.write(TRADE, pictures.tradeoff(_points(table), f"{dataset.name}: what is forgotten, what is lost", LOST))
        lines = {
            FLOOR_LINES[s["entry"]] if s["floor"] else s["entry"]: [(p["step"], Measure.model_validate(p["rate"])) for p in s["curve"]]
            for s in table
            if s["curve"]
        }
        if lines:
            title = f"{dataset.name}: {attack} after unlearning, mean of {len(classes)} classes and {seeds} seeds"
            run.write(CURVES, pictures.curves([(str(attack), lines)], title, "shows the class to both judges, %"))
        costs = {"/".join(map(str, key)): who.run.result.details.get("spent") for key, who in subjects.items() if who.run}
        return {"spent": costs}

    done = compute(request, work, console)
    rundir.point("latest", done)
    return done


def compare_request(
    entries: Sequence[Entry],
    classes: tuple[int, ...],
    params: dict[str, Any],
    start: source.Source,
    dataset: data.Dataset,
    made_of: dict[tuple[str, str, int, int], str],
    seed: int,
) -> rundir.Request:
    """What decides a comparison, and so its name; `made_of` holds the digests of its evaluations and attacks."""
    return rundir.Request(
        stage="compare",
        method="methods",
        classes=classes,
        seed=seed,
        params={"entries": [[e.name, e.method, requested(fit(e))] for e in entries], "version": VERSION, **params},
        parents={"original": start.digest, **{"/".join(map(str, key)): digest for key, digest in made_of.items()}},
        data=dataset.sha256,
    )


def check(methods: Sequence[str], classes: tuple[int, ...], data_name: str, attack: str | None) -> list[Entry]:
    """The entries. Raises UserError for a comparison that could not be made or would not mean anything."""
    entries, dataset = [entry(text) for text in methods], data.load(data_name)
    if len({e.name for e in entries}) < len(entries) or not entries:
        raise UserError(f"--method names what is compared, each once, got {', '.join(methods) or 'none'}")
    same = [(e.method, str(requested(fit(e)))) for e in entries]
    twice = next((e.name for e, key in zip(entries, same, strict=True) if same.count(key) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is the same method with the same settings as another --method: leave one out")
    for k in classes:
        dataset.check_classes((k,))
    if not classes or len(set(classes)) < len(classes):
        raise UserError(f"--class names the classes that are forgotten, one at a time and each once, got {classes}")
    if attack is not None and "loss" in needs(choose("attack", attack, ATTACKS)):
        raise UserError(f"{attack} derives itself from each method, so its floors differ: run auditkit attack {attack} on each model")
    return entries


def budget_of(attack: str, given: dict[str, Any] | None) -> Any:
    """The attack's budget; relearning has one learning rate unless told otherwise, since there are many models."""
    return make_params(module_of(attack).Budget, {**(RELEARN if attack == "relearn" else {}), **(given or {})})


def _models(
    entries: list[Entry], cells: list[Cell], start: source.Source, dataset: data.Dataset, original: str | None, console: Console
) -> dict[Cell, source.Source]:
    """One subject for each cell; retraining has one model a class, the one that serves as floor."""
    by_name = {e.name: e for e in entries}
    calls: dict[Cell, dict[str, Any]] = {}
    for name, k, s in cells:
        e = by_name[name]
        if e.method != "retrain":
            calls[name, k, s] = {"method": e.method, "classes": (k,), "params": e.params, "seed": s, "point": False}
            calls[name, k, s] |= {"data_name": dataset.spec, "original": original}
    side_by_side([(unlearn, call) for call in calls.values()], f"unlearning {len(calls)} models", console)
    made = {key: source.of_run(unlearn(**call), "subject") for key, call in calls.items()}
    for name, k, s in cells:
        if by_name[name].method == "retrain":
            made[name, k, s] = _floor(start, dataset, k, original, console)
    return made


def _floor(start: source.Source, dataset: data.Dataset, k: int, original: str | None, console: Console) -> source.Source:
    """The model retrained without class k: the bundled one, or one that is made here."""
    known = source.retrained(start, dataset.name, dataset.sha256, (k,))
    if known is None:
        made = retrain((k,), data_name=dataset.spec, original=original, point=False, console=console)
        known = source.of_run(made, "retrained")
    return known


def _judged(subjects: dict[Cell, source.Source], start: source.Source, about: dict[str, Any], console: Console) -> dict[Cell, rundir.Run]:
    """The evaluation of each subject, without attacks; the first alone, since it makes the judges that the others read."""
    calls = {
        (name, k, s): {
            **about,
            "model": who.spec,
            "original": about["original"] if who.run else start.spec,  # a folder does not say where it started
            "classes": (k,),
            "attacks": {},
            "seed": s,
            "point": False,
        }
        for (name, k, s), who in subjects.items()
    }
    listed = list(calls.values())
    evaluate(**listed[0], console=console)
    side_by_side([(evaluate, call) for call in listed[1:]], f"judging {len(listed)} models", console)
    return {key: evaluate(**call) for key, call in calls.items()}


def _calls(
    attack: str,
    budget: Any,
    subjects: dict[Cell, source.Source],
    floors: dict[int, source.Source],
    start: source.Source,
    dataset: data.Dataset,
    classes: tuple[int, ...],
    ids: range,
) -> dict[Cell, dict[str, Any]]:
    """The attack on every subject and, for each class and seed, on both floors."""
    who = dict(subjects)
    for k in classes:
        for s in ids:
            who[FLOOR_LINES["retrained"], k, s] = floors[k]
            who[FLOOR_LINES["random"], k, s] = source.random_floor(start, s)
    return {(name, k, s): call_of(attack, Case(target, start, (k,)), dataset, budget, s) for (name, k, s), target in who.items()}


def _row(key: Cell, judged: rundir.Run, subject: source.Source) -> dict[str, Any]:
    """What one model's evaluation says, judge by judge: UA beside what the judge makes of noise, H, and what was lost."""
    record = judged.read_json(EVALUATION)
    heard = record["sets"][0]["evidence"]
    by_judge = {}
    for said in heard:
        loud = said["controls"].get(said["excess"]["noise"], {}) if said["excess"] else {}
        by_judge[said["judge"]] = {
            "ua": said["reading"]["ua"],
            "h": said["reading"]["entropy"],
            "noise_ua": loud.get("ua"),
        }
    changes = {m["name"].split(":")[0]: m for m in record["retained"] if m["name"].endswith("change of retained classes")}
    return {
        "entry": key[0],
        "floor": False,
        "class": key[1],
        "seed": key[2],
        "model": subject.name,
        "evaluation": judged.name,
        "word": record["verdicts"][0]["word"],
        "control": record["controls"][0],
        "judges": by_judge,
        "retained": changes,
        "fidelity": [m for m in record["fidelity"] if m["name"].startswith(("subject", "original"))],
        "curve": [],
        "excess": None,
        "is_floor": None,
    }


def _recover(
    rows: list[dict[str, Any]], attacked: dict[Cell, rundir.Run], dataset: data.Dataset, weights: str | None, console: Console
) -> dict[str, Any]:
    """Adds to each row its recovery curve, the more sceptical judge's rate, and its excess over the floors; and rows for the floors."""
    chosen: dict[str, Any] = {}
    for k in sorted({key[1] for key in attacked}):
        panel, chosen[str(k)] = reporters(dataset, k, weights, 0, console)
        mine = {key: points(run, panel.judges, k) for key, run in attacked.items() if key[1] == k}
        curves = {key: _sceptical(seen.said) for key, seen in mine.items()}
        for row in (r for r in rows if r["class"] == k and not r["floor"]):
            key = row["entry"], k, row["seed"]
            row["is_floor"] = next((f for f in FLOORS if attacked[FLOOR_LINES[f], k, row["seed"]].digest == attacked[key].digest), None)
            excess = over(mine[key], {f: mine[FLOOR_LINES[f], k, row["seed"]] for f in FLOORS if f != row["is_floor"]})
            row["curve"] = curves[key]
            if excess is not None:
                row["excess"] = {"value": excess.value, "low": excess.low, "at": excess.at, "floor": excess.floor, "reach": excess.reach}
        for f, line in FLOOR_LINES.items():
            rows += [{"entry": f, "floor": True, "class": k, "seed": s, "curve": curves[line, k, s]} for name, _, s in mine if name == line]
    return chosen


def _sceptical(said: Points) -> list[list[int]]:
    """[step, hits, n] by step: the least of the judges, the most of the settings."""
    best: dict[int, tuple[int, int]] = {}
    for key, by in said.items():
        step, least = int(key.split("/")[1]), min(by.values())
        best[step] = max(best.get(step, least), least)
    return [[step, *count] for step, count in sorted(best.items())]


def _points(table: list[dict[str, Any]]) -> list[tuple[str, Measure, Measure]]:
    return [(s["entry"], Measure.model_validate(s["lost"]), Measure.model_validate(s["ua"])) for s in table if s["ua"] is not None]
