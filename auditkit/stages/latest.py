"""What `evaluate` means when nothing is named: the case of the latest attack or unlearned model, and its finished attacks."""

from auditkit import data, rundir
from auditkit.errors import UserError
from auditkit.stages.attack import INDEX, Case, find_case
from auditkit.stages.cell import SILENT, Console
from auditkit.stages.train import find_original
from auditkit_attacks import AUDITED


def latest_case(
    model: str | None, original: str | None, data_name: str, classes: tuple[int, ...] | None, console: Console = SILENT
) -> Case:
    """The case of what was named, else of the latest attack, else of the latest unlearned model, else the bundled original alone."""
    if model is None:
        run = rundir.pointed("latest")
        if run is not None and "model" in run.result.details:  # an attack, an evaluation or an audit: the same subject again
            given = run.result.details
            case = find_case(given["model"], original or given["original"], data_name, classes or run.request.classes)
            if case.subject.digest != run.request.parents["model"]:
                raise UserError(f"{given['model']} has changed since {run.name}; say which model with --model")
            return case
        if rundir.pointed("latest-model") is None:
            base = find_original(data_name, original)
            console.say(f"no model has been unlearned yet: judging {base.name} itself")
            return Case(base, None, classes or (0,))
    return find_case(model, original, data_name, classes)


def finished_attacks(case: Case, dataset: data.Dataset, seed: int) -> dict[str, rundir.Run]:
    """The finished index run of each attack with a recovery curve (`audit` runs the same) on this subject beside these controls, with
    this seed.

    Where there are several (other budgets), the one that `latest` names, else the newest.
    """
    controls = {role: who.digest for role, who in case.roles(dataset).items() if role not in ("subject", "gate")}
    latest = rundir.pointed("latest")
    found: dict[str, rundir.Run] = {}
    for run in rundir.finished("attack-"):
        asked = run.request
        if (
            asked.role != "index"
            or asked.method not in AUDITED
            or asked.classes != case.classes
            or asked.seed != seed
            or asked.parents["model"] != case.subject.digest
        ):
            continue
        cells = {role: rundir.known(name) for role, name in run.read_json(INDEX)["cells"].items() if role != "gate"}
        theirs = {role: cell.request.parents["model"] for role, cell in cells.items() if cell is not None and role != "subject"}
        if None in cells.values() or theirs != controls:
            continue
        newest = found.get(asked.method)
        is_latest = latest is not None and latest.name == run.name
        kept_latest = newest is not None and latest is not None and latest.name == newest.name
        if newest is None or is_latest or (not kept_latest and run.result.finished > newest.result.finished):
            found[asked.method] = run
    return found
