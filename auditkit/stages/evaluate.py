"""The evaluation stage: sample, let every judge read every set of images, and put its votes on matched noise beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

import auditkit_evaluators
from auditkit import data, rundir, training
from auditkit.errors import UserError
from auditkit.results import Measure
from auditkit.stages import curves
from auditkit.stages.attack import INDEX, Case, find_case
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.sample import images as images_of
from auditkit.stages.sample import sample, sample_request
from auditkit.stages.train import find_original
from auditkit_evaluators import examine, matched, stats
from auditkit_evaluators.sentence import sentence
from auditkit_evaluators.votes import Judge

EVALUATION = "evaluation.json"
CONTROL_N = 100
HISTOGRAM_N = 2000  # noise drawn from the histogram costs nothing; the other forms cost a sampler run each
ROLES = ("subject", "original", "retrained", "random", "gate")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many images are judged: `n` of the forgotten class, `retain_n` of each retained one."""

    n: int = 500
    retain_n: int = 50

    def __post_init__(self) -> None:
        if self.n < 1 or self.retain_n < 1:
            raise UserError(f"-n and --retain-n must be at least 1, got {self.n} and {self.retain_n}")


@dataclass(frozen=True)
class Shown:
    """One row of the table: images (N, C, H, W) asked to show the class, untouched or after an attack, and their run's digest."""

    name: str
    role: str
    images: Tensor
    digest: str


def evaluate(
    judges: tuple[str, ...] = ("ensemble", "clip"),
    *,
    model: str | None = None,
    original: str | None = None,
    data_name: str = "digits",
    classes: tuple[int, ...] | None = None,
    n: int = 500,
    retain_n: int = 50,
    clip_model: str | None = None,
    attacks: dict[str, rundir.Run] | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Judges the original, the subject, what each attack made of it, and each control.

    `attacks` holds the index run of each attack by name; without it the finished ones of this subject, controls and seed.
    """
    Counts(n=n, retain_n=retain_n)
    dataset = data.load(data_name)
    case = latest_case(model, original, data_name, classes, console)
    asked = case.classes[0]
    if clip_model is not None and "clip" not in judges:
        raise UserError(f"--clip-model is for the clip judge, and --judges are {','.join(judges)}")
    clip_sha = _clip_fingerprint(dataset.name, clip_model) if "clip" in judges else None
    attacks = finished_attacks(case, dataset, seed) if attacks is None else attacks
    sampled = _samples(case, dataset, n, retain_n, seed, console)
    request = rundir.Request(
        stage="evaluate",
        method="-".join(judges),
        classes=case.classes,
        seed=seed,
        params={"judges": list(judges), "n": n, "retain_n": retain_n, "clip": clip_sha},
        parents={
            "model": case.subject.digest,
            **{f"sample/{role}": run.digest for role, run in sampled.items()},
            **{f"attack/{k}": r.digest for k, r in attacks.items()},
        },
        data=dataset.sha256,
    )

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        with console.track("building judges", 1) as advance:
            panel = auditkit_evaluators.build(judges, dataset, clip_model=clip_model, seed=seed)
            advance(1)
        run.write_json(EVALUATION, _judge(panel, case, dataset, asked, sampled, attacks, seed))
        return case.given

    run = compute(request, work, console)
    rundir.point("latest", run)
    return run


def _clip_fingerprint(data_name: str, model: str | None) -> str:
    from auditkit_evaluators import clip  # imports open_clip: a second that other commands need not pay

    return clip.fingerprint(data_name, model)


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
    """The finished index run of each attack on this subject beside these controls, with this seed.

    Where there are several (other budgets), the one that `latest` names, else the newest.
    """
    controls = {role: who.digest for role, who in case.roles(dataset).items() if role not in ("subject", "gate")}
    latest = rundir.pointed("latest")
    found: dict[str, rundir.Run] = {}
    for run in rundir.finished("attack-"):
        asked = run.request
        if asked.role != "index" or asked.classes != case.classes or asked.seed != seed or asked.parents["model"] != case.subject.digest:
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


def _samples(case: Case, dataset: data.Dataset, n: int, retain_n: int, seed: int, console: Console) -> dict[str, rundir.Run]:
    """One sample run per role: subject and original at full n, the controls' untouched answers at 100."""
    asked, roles = case.classes[0], case.roles(dataset)
    full = {asked: n} | {int(c): retain_n for c in dataset.others(case.classes)}
    plans: dict[str, dict[str, Any]] = {}
    for role, who in roles.items():
        counts = full if role in ("subject", "original") else {asked: min(n, CONTROL_N)}
        plans[role] = {
            "model": who,
            "counts": counts,
            "noise_for": asked if role == "subject" else None,
            "data_name": dataset.name,
            "seed": seed,
        }
    side_by_side([(sample, plan) for plan in plans.values()], "sampling", console)
    return {role: rundir.find(sample_request(**plan).name) for role, plan in plans.items()}


def _judge(
    panel: list[Judge],
    case: Case,
    dataset: data.Dataset,
    asked: int,
    sampled: dict[str, rundir.Run],
    attacks: dict[str, rundir.Run],
    seed: int,
) -> dict[str, Any]:
    images = {role: images_of(run) for role, run in sampled.items()}
    subject = images["subject"][f"class/{asked}"]
    noises = {"histogram": matched.matched(subject, HISTOGRAM_N, seed)}
    noises |= {name.removeprefix("noise/"): t for name, t in images["subject"].items() if name.startswith("noise/")}
    cards = {judge.name: examine.card(judge, dataset, asked, noises) for judge in panel}
    shown = [Shown("untouched", role, images[role][f"class/{asked}"], sampled[role].digest) for role in ROLES if role in images]
    indices = {name: run.read_json(INDEX) for name, run in attacks.items()}
    cells = {(name, role): rundir.find(cell) for name, index in indices.items() for role, cell in index["cells"].items() if role != "gate"}
    attacked = {key: images_of(run) for key, run in cells.items()}
    speaker = curves.speaker(panel, cards)
    lines = curves.by_judge(speaker, indices, attacked, asked)
    headlines = curves.headlines(lines)
    for name, headline in headlines.items():
        for role in (r for r in ROLES if (name, r) in attacked):
            key = f"{headline['setting']}/{headline['step']}"
            shown.append(Shown(name, role, attacked[name, role][key], cells[name, role].digest))
    of_subject = {j.name: _read(j, shown[0], asked, dataset) for j in panel}
    excess = {name: examine.excess(reading, cards[name]) for name, reading in of_subject.items()}
    gate = [e.difference for e in excess.values()] + curves.all_points(lines)
    gate += [
        Measure(name=f"class {also}", value=None, n=0, safer="lower", note=f"forgotten too, not judged here: --class {also}")
        for also in case.classes[1:]
    ]
    return {
        "schema_version": 1,
        "data": dataset.name,
        "class": asked,
        "classes": list(case.classes),
        "subject": case.subject.name,
        "original": case.original.name if case.original else None,
        "missing": case.missing(case.roles(dataset)),
        "cards": [c.model_dump() for c in cards.values()],
        "sets": [
            {"set": s.name, "role": s.role, "digest": s.digest, "readings": [_read(j, s, asked, dataset).model_dump() for j in panel]}
            for s in shown
        ],
        "above_noise": [e.model_dump() for e in excess.values()],
        "sentences": [sentence(reading, cards[name], dataset.classes) for name, reading in of_subject.items()],
        "retained": [m.model_dump() for m in _retained(panel, case, dataset, images)],
        "curve_judge": speaker.name,
        "curves": lines,
        "headlines": headlines,
        "attacks": {
            name: {"run": run.name, "params": run.request.params, "seed": run.request.seed, "models": indices[name]["models"]}
            for name, run in attacks.items()
        },
        "in_short": _in_short(case, asked, dataset, list(excess.values()), headlines),
        "gate": [m.model_dump() for m in gate],
    }


def _in_short(
    case: Case, asked: int, dataset: data.Dataset, excess: list[examine.Excess], headlines: dict[str, dict[str, Any]]
) -> list[str]:
    """What was measured, in two or three sentences without an adjective; no verdict."""
    present = [e.judge for e in excess if e.present]
    explained = [e.judge for e in excess if e.explained_by_noise]
    name = dataset.classes[asked]
    said = [f"untouched: {len(present)} of {len(excess)} judges find {name!r} above matched noise by more than 5 points"]
    if explained:
        said.append(
            f"{', '.join(explained)}: call over 5 % of noise {name!r}, and the images no more often: a UA below 100 % is the judge's doing"
        )
    for attack, headline in headlines.items():
        m = Measure.model_validate(headline["excess"])
        if m.value is None or m.low is None or m.high is None:
            said.append(f"{attack}: excess not measured ({m.note})")
            continue
        sure = (
            "above its highest floor at some point" if m.low > 0 else "below its floors" if m.high < 0 else "not told apart from its floors"
        )
        said.append(f"{attack}: {sure}; largest excess {_where(headline)}, smallest {_where(headline['least'])}, at {headline['setting']}")
    if headlines:
        said.append("intervals of an excess hold together over the points of its attack, and for one training seed")
    said += [f"class {also}: forgotten too, not judged here (--class {also})" for also in case.classes[1:]]
    return said


def _where(point: dict[str, Any]) -> str:
    """ "+27 points [+6, +46] over retrained (20 steps)"."""
    value, low, high = (round(100 * point["excess"][key]) for key in ("value", "low", "high"))
    return f"{value:+d} points [{low:+d}, {high:+d}] over {point['floor']} ({point['step']} steps)"


def _read(judge: Judge, shown: Shown, asked: int, dataset: data.Dataset) -> examine.Reading:
    return examine.read(judge, shown.images, asked, f"{shown.role}, {shown.name}", dataset.classes)


def _retained(panel: list[Judge], case: Case, dataset: data.Dataset, images: dict[str, dict[str, Tensor]]) -> list[Measure]:
    """How often each judge sees the asked class in the retained ones: original, subject, and the change, image by image
    (both were drawn from the same seeds)."""
    found = []
    kept = [int(c) for c in dataset.others(case.classes)]
    roles = [r for r in ("original", "subject") if r in images]
    for judge in panel:
        right = {r: np.concatenate([judge.judge(images[r][f"class/{c}"]).probs.argmax(1) == c for c in kept]) for r in roles}
        for role, hit in right.items():
            found.append(stats.rate(f"{judge.name}: retained classes, {role}", int(hit.sum()), len(hit), safer="higher"))
        if len(right) == 2:
            change = stats.paired_difference(
                f"{judge.name}: change of retained classes", right["subject"], right["original"], safer="higher"
            )
            found.append(change)
    return found
