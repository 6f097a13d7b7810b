"""The report stage: what an evaluation and a suite say of one model, and what it looks like, as one page."""

from typing import Any

from auditkit import pictures, rundir, training
from auditkit.errors import UserError
from auditkit.report import Sheet, render
from auditkit.results import Measure
from auditkit.stages.cell import SILENT, Console, compute
from auditkit.stages.evaluate import EVALUATION
from auditkit.stages.sample import IMAGES, images
from auditkit.stages.suite import SUITE, VERSION, excesses

PAGE = "report.html"
RECORDS = {"audit": "summary.json", "evaluate": EVALUATION, "suite": SUITE}
COLUMNS = 12
NOISE = "eps=0"


def report(name: str | None = None, *, redact: bool = False, console: Console = SILENT) -> rundir.Run:
    """The page of a finished audit, evaluation or suite (the latest unless named), with the newest of the other kind on the same model.

    What is on the page decides its run: the evidence, the runs whose images are still there, seconds and versions.
    """
    main = rundir.find(name) if name is not None else _latest()
    if main.request.stage not in RECORDS:
        raise UserError(f"{main.name} is a run of {main.request.stage}; a report is about a run of audit, evaluate or attack quick")
    if main.request.stage == "suite" and not _current(main):
        raise UserError(
            f"{main.name} was made by an older auditkit: run auditkit attack {main.request.method} again (what is finished is kept)"
        )
    judged, attacked = (main, _beside(main, ("suite",))) if main.request.stage != "suite" else (_beside(main, ("audit", "evaluate")), main)
    used = _parents(judged) | _parents(attacked)
    seconds = attacked.result.details.get("seconds", {}) if attacked else {}
    evidence = {key: run.digest for key, run in (("evaluation", judged), ("suite", attacked)) if run is not None}
    evidence |= {f"used/{key}": run.digest for key, run in used.items()}
    request = report_request(main.request, {"redact": redact, "seconds": seconds, "made": _machine(main)}, evidence)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        run.write(PAGE, page(judged, attacked, used, seconds, redact=redact))
        return {}

    return compute(request, work, console)


def report_request(about: rundir.Request, params: dict[str, Any], evidence: dict[str, str]) -> rundir.Request:
    """What decides a page about a run that was asked for by `about`, and so its name; `evidence` holds the digests of what is on it."""
    return rundir.Request(
        stage="report",
        method=about.stage,
        classes=about.classes,
        params={"version": 2, **params},
        parents=evidence,
        data=about.data,
    )


def page(
    judged: rundir.Run | None, attacked: rundir.Run | None, used: dict[str, rundir.Run], seconds: dict[str, float], *, redact: bool
) -> str:
    """The HTML of one evaluation and one suite; either may be missing. `used` are the runs that they were made from."""
    evaluation = judged.read_json(RECORDS[judged.request.stage]) if judged else None
    suite = attacked.read_json(SUITE) if attacked else None
    subject = (suite or evaluation or {})["subject"]
    asked = suite["class"] if suite else evaluation["class_names"][evaluation["class"]] if evaluation else ""
    alone = judged is not None and "images" in judged.request.parents
    return render(
        title=f"Do {subject} show class {asked}?" if alone else f"Has {subject} forgotten class {asked}?",
        evaluation=evaluation,
        suite=suite,
        seconds=seconds,
        sheets=() if redact else [*_untouched(evaluation, used), *(_attacked(suite, used) if suite else _audited(evaluation))],
        plots=_plots(evaluation, suite),
        recipe=_recipe(judged, attacked, used),
        runs=[(run.name, run.digest) for run in (judged, attacked) if run] + sorted((r.name, r.digest) for r in used.values()),
        redacted=redact,
    )


def _latest() -> rundir.Run:
    """The run that `latest` names if a report can be about it, else the newest that one can."""
    pointed = rundir.pointed("latest")
    if pointed is not None and pointed.request.stage in RECORDS:
        return pointed
    found = max(rundir.finished(*(f"{stage}-" for stage in RECORDS)), key=lambda r: r.result.finished, default=None)
    if found is None:
        raise UserError("there is nothing to report yet: run auditkit audit --class 2 first, or name a run")
    return rundir.read(found.path)


def _current(run: rundir.Run) -> bool:
    """Whether a suite's record is what today's pages read."""
    return run.request.stage != "suite" or int(run.request.params.get("version", 0)) == VERSION


def _beside(main: rundir.Run, stages: tuple[str, ...]) -> rundir.Run | None:
    """The newest finished run of one of `stages` about the same model and classes; an audit before an evaluation of its own."""

    def about(run: rundir.Run) -> tuple[Any, ...]:
        return run.request.parents.get("model"), run.request.classes, run.request.data

    found = [r for r in rundir.finished(*(f"{s}-" for s in stages)) if about(r) == about(main) and _current(r)]
    newest = max(found, key=lambda r: r.result.finished, default=None) if about(main)[0] else None
    return rundir.read(newest.path) if newest else None


def _parents(run: rundir.Run | None) -> dict[str, rundir.Run]:
    """The runs that a run was made from and that are still there, by their place in it, an audit's evaluation unfolded."""
    where, found = rundir.by_digest(), {}
    for key, digest in run.request.parents.items() if run else ():
        if digest in where:
            found[key] = rundir.read(where[digest])
    return found | (_parents(found["evaluation"]) if "evaluation" in found else {})


def _untouched(evaluation: dict[str, Any] | None, used: dict[str, rundir.Run]) -> list[Sheet]:
    """What a user gets: the original, the subject, and what the sampler gives from the same seeds when the network says nothing."""
    if evaluation is None:
        return []
    asked, rows = evaluation["class"], []
    notes = {e["role"]: f"{e['verdict']['word']}, n = {e['verdict']['n']}" for e in evaluation["sets"] if e["set"] == "untouched"}
    for role in ("original", "subject", "retrained", "random", "gate"):
        run = used.get(f"sample/{role}")
        if run is not None:
            made = images(run)
            rows.append((role, notes.get(role, ""), pictures.strip(made[f"class/{asked}"][:COLUMNS])))
            if role == "subject" and f"noise/{asked}/{NOISE}" in made:
                rows.append(
                    ("matched noise", "the same sampler and seeds, eps = 0", pictures.strip(made[f"noise/{asked}/{NOISE}"][:COLUMNS]))
                )
    return [Sheet("Asked for the class, untouched", rows)] if rows else []


def _attacked(suite: dict[str, Any] | None, used: dict[str, rundir.Run]) -> list[Sheet]:
    """What each attack made of the subject and its floors, the breaks first and in full; the first training seed."""
    sheets = []
    drawn = [row for row in suite["rows"] if row["excess"]] if suite else []
    for row in sorted(drawn, key=lambda row: (not row["broken"], -row["excess"]["low"])):
        rows = []
        for role in ("subject", "retrained", "random", "original") if row["broken"] else ("subject", row["excess"]["floor"]):
            cells = [(int(key.split("/")[0]), r) for key, r in used.items() if key.split("/")[1:] == [row["attack"], role]]
            run = min(cells, key=lambda cell: cell[0])[1] if cells else None
            made = images(run) if run is not None and IMAGES in run.result.files else {}
            if row["at"] in made and role in row["rates"]:
                m = min(row["rates"][role].values(), key=lambda m: m["value"])
                note = f"{100 * m['value']:.0f} % [{100 * m['low']:.0f}, {100 * m['high']:.0f}], n = {m['n']}"
                seeds = f"; images of the first of {suite['seeds']} seeds" if suite and suite["seeds"] > 1 else ""
                rows.append((role, note + seeds, pictures.strip(made[row["at"]][:COLUMNS])))
        if rows:
            at = row["chosen"] or row["at"].replace("/", ", step ")
            sheets.append(Sheet(f"{row['attack']}{' (broken)' if row['broken'] else ''}: {at}", rows, aside=not row["broken"]))
    return sheets


def _audited(evaluation: dict[str, Any] | None) -> list[Sheet]:
    """What the attacks of an audit made of the subject and its controls, where the subject exceeds its floors most."""
    where, sheets = rundir.by_digest(), []
    for attack, worst in (evaluation or {"headlines": {}})["headlines"].items():
        rows = []
        for entry in (e for e in evaluation["sets"] if e["set"] == attack) if evaluation else ():
            run = rundir.read(where[entry["digest"]]) if entry["digest"] in where else None
            made = images(run) if run is not None else {}
            key = f"{worst['setting']}/{worst['step']}"
            if key in made:
                rows.append(
                    (entry["role"], f"{entry['verdict']['word']}, n = {entry['verdict']['n']}", pictures.strip(made[key][:COLUMNS]))
                )
        if rows:
            sheets.append(Sheet(f"{attack}: {worst['setting']}, step {worst['step']}", rows))
    return sheets


def _plots(evaluation: dict[str, Any] | None, suite: dict[str, Any] | None) -> list[tuple[str, bytes]]:
    """SVG with what it shows in words: the excess of every attack, then one recovery curve for each attack that trains."""
    if suite:
        plots = [("excess of each attack over its highest floor", pictures.bars(excesses(suite), "", suite["margin"], "svg"))]
        curves = [(f"{r['attack']}, {r['at'].rpartition('/')[0]}", r["curves"]) for r in suite["rows"] if r["curves"]]
        return plots + [(f"recovery by {name}", _curve(name, lines, suite["class"], "the more sceptical judge")) for name, lines in curves]
    if evaluation is None:
        return []
    asked = evaluation["class_names"][evaluation["class"]]
    named = [(f"{c['attack']}, {c['setting']}", c["lines"]) for c in evaluation["curves"]]
    return [(f"recovery by {name}", _curve(name, lines, asked, evaluation["curve_judge"])) for name, lines in named]


def _curve(name: str, lines: dict[str, Any], asked: str, judge: str) -> bytes:
    order = [role for role in ("original", "sham", "random", "retrained", "subject") if role in lines]
    shown: dict[str, Any] = {role: [(int(p["step"]), Measure.model_validate(p["rate"])) for p in lines[role]] for role in order}
    return pictures.curves([(name, shown)], "", f"shows {asked} to {judge}, %", "svg")


def _recipe(judged: rundir.Run | None, attacked: rundir.Run | None, used: dict[str, rundir.Run]) -> list[tuple[str, str]]:
    """How the subject was made, what judged it, and with which versions."""
    main = attacked or judged
    assert main is not None
    model = used.get("model")
    given = next((f"{key}, digest {main.request.parents[key]}" for key in ("model", "images") if key in main.request.parents), "")
    made = [("subject", f"{model.name}, digest {model.digest}" if model else given)]
    if model:
        how = "imported from" if model.request.stage == "import" else "unlearned by"
        made.append((how, f"{model.request.method}, seed {model.request.seed}: {_settings(model.request.params)}"))
    made += [(r.request.stage, f"{r.name}, digest {r.digest}, seed {r.request.seed}") for r in (judged, attacked) if r]
    sampler = next((r.request.params["sampler"] for r in used.values() if "sampler" in r.request.params), None)
    made += [("sampler", _settings(sampler))] if sampler else []
    made.append(("data", f"SHA-256 {main.request.data}"))
    return [*made, *_machine(main).items()]


def _machine(main: rundir.Run) -> dict[str, str]:
    found = main.result
    return {"versions": _settings(found.versions), "commit": found.commit or "an installed package", "machine": found.machine}


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
