"""The main job: unlearn, attack beside the controls, judge, and one summary with its two pictures."""

from typing import Any

from torch import Tensor

from auditkit import data, pictures, rundir, training
from auditkit.errors import UserError, choose
from auditkit.results import Measure
from auditkit.stages import source
from auditkit.stages.attack import INDEX, Case, calls_of, cell, find_case, index
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.choice import Choice, counts_of
from auditkit.stages.evaluate import EVALUATION, evaluate
from auditkit.stages.sample import images as images_of
from auditkit.stages.train import find_original, make_params, unlearn
from auditkit_attacks import AUDITED, module_of

SUMMARY, GRID, CURVES = "summary.json", "grid.png", "curves.png"
COLUMNS = 16


def audit(
    classes: tuple[int, ...] | None,
    *,
    model: str | None = None,
    original: str | None = None,
    data_name: str = "digits",
    method: str = "safemax",
    judges: tuple[str, ...] = ("ensemble", "clip"),
    protocol: str = "clean",
    clip_model: str | None = None,
    judge_weights: str | None = None,
    inception: str | None = None,
    params: dict[str, dict[str, Any]] | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Unlearns (or takes `model`), runs every attack on the subject and its controls, judges all of it and sums it up.

    `params` holds settings by command: {"unlearn": {"lam": 5}, "relearn": {"steps": 50}, "evaluate": {"n": 200}}.
    """
    dataset = data.load(data_name)
    settings = params or {}
    for command in settings:
        choose("command", command, ("unlearn", "evaluate", *AUDITED))
    budgets = {name: make_params(module_of(name).Budget, settings.get(name, {})) for name in AUDITED}
    counts = counts_of(settings.get("evaluate", {}), protocol)
    how: dict[str, Any] = {"protocol": protocol, "clip_model": clip_model, "judge_weights": judge_weights, "inception": inception}
    Choice(judges=judges, **how).check(dataset)
    common: dict[str, Any] = {"data_name": dataset.spec, "seed": seed}
    if model is None:
        forget = classes or ()
        dataset.check_classes(forget)
        start = find_original(data_name, original)
        changes = settings.get("unlearn", {})
        first: list[Any] = [(unlearn, {"method": method, "classes": forget, "original": original, "params": changes, **common})]
        # The controls do not depend on the subject: they are attacked while it is being unlearned.
        first += _cells(Case(start, start, forget), dataset, budgets, seed, without="subject")
        side_by_side(first, "unlearning, and attacking the controls", console)
        subject = unlearn(method, forget, original=original, params=changes, **common)
        case = Case(source.of_run(subject, "subject"), start, forget)
    else:
        case = find_case(model, original, data_name, classes)
    side_by_side(_cells(case, dataset, budgets, seed), "attacking", console)
    attacks = {name: index(name, case, dataset, budgets[name], seed, console) for name in AUDITED}
    given: dict[str, Any] = {**counts, **case.given}
    judged = evaluate(judges, console=console, classes=case.classes, attacks=attacks, **how, **given, **common)
    return _summarise(case, dataset, judged, seed, console)


def _cells(case: Case, dataset: data.Dataset, budgets: dict[str, Any], seed: int, *, without: str = "") -> list[tuple[Any, dict[str, Any]]]:
    """One call for each attack on each role."""
    return [
        (cell, call)
        for name, budget in budgets.items()
        for role, call in calls_of(name, case, dataset, budget, seed).items()
        if role != without
    ]


def _summarise(case: Case, dataset: data.Dataset, judged: rundir.Run, seed: int, console: Console) -> rundir.Run:
    record = judged.read_json(EVALUATION)
    request = audit_request(case, case.subject.method, dataset, judged.digest, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        run.write_json(SUMMARY, {**record, "evaluation": judged.name})
        title = f"{case.subject.name}: class {record['class']}, untouched: {record['verdicts'][0]['word']}"
        run.write(GRID, pictures.grid(_grid_rows(case, judged), title=title))
        panels = [(f"{c['attack']}, {c['setting']}", _lines(c)) for c in record["curves"]]
        ylabel = f"judged {record['class']} by {record['curve_judge']}, %"
        run.write(CURVES, pictures.curves(panels, f"Recovery of class {record['class']}: subject against its floors", ylabel))
        return case.given

    run = compute(request, work, console)
    rundir.point("latest", run)
    return run


def audit_request(case: Case, method: str, dataset: data.Dataset, evaluation: str, seed: int) -> rundir.Request:
    """What decides an audit, and so its name; `evaluation` is the digest of what judged it, which holds the attacks."""
    return rundir.Request(
        stage="audit",
        method=method,
        classes=case.classes,
        seed=seed,
        parents={"evaluation": evaluation, "model": case.subject.digest},
        data=dataset.sha256,
        schema_number=2,
    )


def _lines(curve: dict[str, Any]) -> dict[str, list[tuple[int, Measure]]]:
    order = ("original", "random", "retrained", "subject")
    lines = curve["lines"]
    return {r: [(p["step"], Measure.model_validate(p["rate"])) for p in lines[r]] for r in order if r in lines}


def _grid_rows(case: Case, judged: rundir.Run) -> list[tuple[str, Tensor]]:
    """Original, unlearned, relearned, the floors relearned, gate: the first images of each, equal seeds in equal columns."""
    asked, judged_record = case.classes[0], judged.read_json(EVALUATION)
    by_digest = rundir.by_digest()
    parents = {name: rundir.read(by_digest[digest]) for name, digest in judged.request.parents.items() if "/" in name}
    rows: list[tuple[str, Tensor]] = []

    def add(name: str, run: rundir.Run | None, key: str) -> None:
        if run is not None:
            rows.append((name, images_of(run)[key][:COLUMNS]))

    add("original", parents.get("sample/original"), f"class/{asked}")
    subject = "subject" if case.subject.method == "folder" else "unlearned"
    add(subject, parents.get("sample/subject"), f"class/{asked}")
    if "relearn" in judged_record["headlines"]:
        worst = judged_record["headlines"]["relearn"]
        cells = parents["attack/relearn"].read_json(INDEX)["cells"]
        for role, name in (("subject", subject), ("retrained", "retrained"), ("random", "random network")):
            run = rundir.find(cells[role]) if role in cells else None
            add(f"{name}, relearned\n{worst['step']} steps, {worst['setting']}", run, f"{worst['setting']}/{worst['step']}")
    add("gate, queried", parents.get("sample/gate"), f"class/{asked}")
    if not rows:
        raise UserError("there is nothing to show: no images were sampled")
    return rows
