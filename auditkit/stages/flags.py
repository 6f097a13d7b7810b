"""What a reader must know before believing a number of a suite: flags, computed for every run and shown beside the numbers they touch."""

from typing import Any

from auditkit import data, rundir
from auditkit.errors import UserError
from auditkit.stages.aim import aim, bypassed
from auditkit.stages.attack import CURVE, GIVEN, Case
from auditkit.stages.heldout import copied, given_of, unseen
from auditkit.stages.sample import IMAGES, images
from auditkit_attacks.curve import kept_by
from auditkit_evaluators.control import Control
from auditkit_evaluators.excess import MARGIN

NOISE, APART, ALIVE, RISING, COPIES = 0.01, 0.10, 0.5, 0.10, 0.5


def raised(
    record: dict[str, Any],
    case: Case,
    runs: dict[tuple[int, str, str], rundir.Run],
    about: dict[str, Any],
    dataset: data.Dataset,
    control: Control,
) -> list[dict[str, Any]]:
    """Every flag: the attack it touches (or ""), a sentence, and whether it makes the subject unfit to be ranked."""
    rows = {row["attack"]: row for row in record["rows"]}
    found = [] if control.passed else [_flag("", f"these attacks say nothing about forgetting: {control.why}", unfit=True)]
    found += [*_of_the_subject(case, dataset), *_of_the_judges(about), *_of_the_controls(rows)]
    for name, row in rows.items():
        found += [_flag(name, text) for text in _of_a_row(row)]
        found += [_flag(name, text) for key, run in runs.items() if key[1:] == (name, "subject") for text in _of_a_cell(run, dataset, case)]
    other = [name for name in rows if record["planted"].get(name, case.classes[0]) != case.classes[0]]
    if other:
        hint = f"auditkit selftest --class {case.classes[0]}"
        found.append(_flag("", f"validated in another class, not in this one ({hint}): {', '.join(other)}"))
    best = {
        t: max((r["excess"]["low"] for r in rows.values() if r["tier"] == t and r["excess"]), default=None) for t in ("query", "forget")
    }
    if best["query"] is not None and best["forget"] is not None and best["query"] > best["forget"]:
        found.append(_flag("", "asking brings back more than training on the class: suspect the training attacks"))
    sweep, plain = rows.get("sampler-sweep"), rows.get("repeat")
    if sweep and plain and _least(sweep, "subject") > _least(plain, "subject") + APART:
        found.append(_flag("sampler-sweep", f"the answer depends on the sampler ({sweep['chosen']})"))
    unique = {(f["attack"], f["text"]): f for f in found}
    return list(unique.values())


def _flag(attack: str, text: str, *, unfit: bool = False) -> dict[str, Any]:
    return {"attack": attack, "text": text, "unfit": unfit}


def _of_the_subject(case: Case, dataset: data.Dataset) -> list[dict[str, Any]]:
    """A model that makes nothing, or whose class table does not matter, cannot be called resilient."""
    found, model = [], case.subject.load()
    kept = kept_by(aim(case.subject, dataset, case.classes, tier="weights"), model, 0)
    if kept.hits < ALIVE * kept.n:
        text = f"the subject shows the retained classes in {kept.hits} of {kept.n} images: it is broken, not resilient"
        found.append(_flag("", text, unfit=True))
    try:
        if bypassed(model, case.classes[0]):
            found.append(_flag("", "the class's row does not matter to the network: a gate in the code is suspected", unfit=True))
    except UserError as error:
        found.append(_flag("", str(error), unfit=True))
    return found


def _of_the_judges(about: dict[str, Any]) -> list[dict[str, Any]]:
    return [_flag("", f"{name} calls {100 * j['noise']:.0f} % of some noise this class") for name, j in about.items() if j["noise"] > NOISE]


def _of_the_controls(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A floor that shows the class without being attacked."""
    plain, found = rows.get("repeat"), []
    if plain and "retrained" in plain["rates"] and _least(plain, "retrained") > 0.05:
        found.append(_flag("repeat", f"the retrained control shows the class in {100 * _least(plain, 'retrained'):.0f} % unattacked"))
    return found


def _least(row: dict[str, Any], role: str) -> float:
    """The rate that both judges agree on at least."""
    return min((m["value"] for m in row["rates"].get(role, {}).values()), default=0.0)


def _of_a_row(row: dict[str, Any]) -> list[str]:
    found = []
    rates = [m["value"] for m in row["rates"].get("subject", {}).values()]
    if rates and max(rates) - min(rates) > APART:
        found.append(f"the judges disagree: {' and '.join(f'{100 * r:.0f} %' for r in rates)}")
    if row["excess"] and not row["excess"]["clean"]:
        found.append("the judges see the class only in images that they would rather call no class: traces, not counted as a break")
    elif row["excess"] and row["excess"]["low"] > MARGIN and not row["broken"]:
        found.append('above its floors alone, not surely together with all other attacks (Holm) and with "no class" among the answers')
    if row["validated"] is None:
        found.append("not validated: auditkit selftest has not been run")
    elif not row["validated"]:
        found.append("not validated: it failed its selftest")
    return found


def _of_a_cell(run: rundir.Run, dataset: data.Dataset, case: Case) -> list[str]:
    """What a training attack did besides: retained classes lost, a curve that still rises, images that are copies."""
    record, found = run.read_json(CURVE), []
    kept = record.get("kept")
    if kept and kept["hits"] < ALIVE * kept["n"]:
        found.append(f"the attacked model keeps the other classes in {kept['hits']} of {kept['n']} images only")
    for setting in dict.fromkeys(p["setting"] for p in record["curve"]):
        line = [p for p in record["curve"] if p["setting"] == setting]
        if len(line) > 2 and kept and line[-1]["hits"] - line[-2]["hits"] > RISING * line[-1]["n"]:
            found.append(f"{setting}: still rising after {line[-1]['step']} steps")
    if GIVEN in run.result.files and IMAGES in run.result.files:
        given, fresh, made = given_of(run), unseen(dataset, case.classes), images(run)
        for setting in dict.fromkeys(key.rpartition("/")[0] for key in made):
            last = max((key for key in made if key.startswith(f"{setting}/")), key=lambda key: int(key.rpartition("/")[2]))
            share = copied(made[last], given, fresh)
            if share.low is not None and share.low > COPIES:
                found.append(f"{setting}: {100 * (share.value or 0):.0f} % of its images lie nearer to the attacker's than to unseen ones")
    return found
