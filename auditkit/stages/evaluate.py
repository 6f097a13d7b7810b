"""The evaluation stage: sample, let every judge speak of every set of images beside its controls, and come to a verdict."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditkit import data, rundir, training
from auditkit.errors import UserError
from auditkit.results import Measure
from auditkit.stages import curves, given_images, imagery, judging, positive, source, wording
from auditkit.stages.attack import INDEX, Case
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.choice import Choice, Counts
from auditkit.stages.latest import finished_attacks, latest_case
from auditkit.stages.numbers import density, fano, fidelity, retained, retained_votes
from auditkit.stages.sample import images as images_of
from auditkit.stages.sample import sample, sample_request
from auditkit_evaluators.control import Control, controlled
from auditkit_evaluators.evaluation import WORST_FIRST, Evaluation, Heard
from auditkit_evaluators.protocol import PROTOCOLS, stretch
from auditkit_evaluators.sentence import sentence

EVALUATION, PICTURE = "evaluation.json", "judges.png"
CONTROL_N = 100
# Images times parameters of the network: 3,600 digits, 9 s on one core at 2.6 ms each; two processes need 6 s to start, then half as long.
STARTED = 2.5e8
ROLES = ("subject", "original", "retrained", "random", "gate")
NO_FIDELITY = "not measured: it compares the retained classes, and --images holds images of the one that was asked for"


@dataclass(frozen=True)
class Shown:
    """One row of the table: images (N, C, H, W) asked to show a class, untouched or after an attack, and where they come from."""

    name: str
    role: str
    asked: int
    images: Tensor
    digest: str
    made: dict[str, Tensor] | None = None


def evaluate(
    judges: tuple[str, ...] = ("ensemble", "clip"),
    *,
    model: str | None = None,
    original: str | None = None,
    data_name: str = "digits",
    classes: tuple[int, ...] | None = None,
    n: int = 500,
    retain_n: int = 50,
    protocol: str = "clean",
    clip_model: str | None = None,
    judge_weights: str | None = None,
    inception: str | None = None,
    attacks: dict[str, rundir.Run] | None = None,
    seed: int = 0,
    point: bool = True,
    console: Console = SILENT,
) -> rundir.Run:
    """Judges the original, the subject, what each attack made of it, and each control.

    `attacks` holds the index run of each attack by name; without it the finished ones of this subject, controls and seed. With `point`
    the next commands mean this evaluation.
    """
    Counts(n=n, retain_n=retain_n)
    choice = Choice(judges=judges, protocol=protocol, clip_model=clip_model, judge_weights=judge_weights, inception=inception)
    dataset = data.load(data_name)
    asked_for = choice.request(dataset.name)
    case = latest_case(model, original, data_name, classes, console)
    attacks = finished_attacks(case, dataset, seed) if attacks is None else attacks
    sampled = _samples(case, dataset, n, retain_n, seed, console)
    made_of = {f"sample/{role}": run.digest for role, run in sampled.items()} | {f"attack/{k}": r.digest for k, r in attacks.items()}
    request = evaluate_request(case, dataset, judges, {"n": n, "retain_n": retain_n, **asked_for}, made_of, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        panel = _panel(choice, dataset, seed, console)
        prepare = stretch if PROTOCOLS[protocol].stretch else (lambda x: x)
        images = {role: {name: prepare(t) for name, t in images_of(made).items()} for role, made in sampled.items()}
        record, shown = _judge(panel, case, dataset, images, sampled, attacks, choice, console)
        _write(run, record, panel, shown)
        return case.given

    run = compute(request, work, console)
    if point:
        rundir.point("latest", run)
    return run


def evaluate_request(
    case: Case, dataset: data.Dataset, judges: tuple[str, ...], params: dict[str, Any], made_of: dict[str, str], seed: int
) -> rundir.Request:
    """What decides an evaluation, and so its name; `made_of` holds the digests of its samples and attacks."""
    return rundir.Request(
        stage="evaluate",
        method="-".join(name.replace(":", "-").replace(".", "-").replace("_", "-").lower() for name in judges),
        classes=case.classes,
        seed=seed,
        params=params,
        parents={"model": case.subject.digest, **made_of},
        data=dataset.sha256,
        schema_number=2,
    )


def evaluate_images(
    path: str,
    classes: tuple[int, ...],
    judges: tuple[str, ...] = ("ensemble", "clip"),
    *,
    data_name: str = "digits",
    protocol: str = "clean",
    clip_model: str | None = None,
    judge_weights: str | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Judges images that were made elsewhere, asked to show `classes[0]`: a folder of PNG, an .npz or a .safetensors file."""
    dataset = data.load(data_name)
    dataset.check_labels(classes)
    choice = Choice(judges=judges, protocol=protocol, clip_model=clip_model, judge_weights=judge_weights)
    asked_for = choice.request(dataset.name)
    if len(classes) != 1:
        raise UserError(f"--images are judged for one class, got --class {','.join(map(str, classes))}")
    given = given_images.read(Path(path), dataset.shape, classes[0], len(dataset.classes))
    for note in given.notes:
        console.say(note)
    request = images_request(classes, dataset, asked_for, given.digest, seed, given.notes)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        panel = _panel(choice, dataset, seed, console)
        prepare = stretch if PROTOCOLS[protocol].stretch else (lambda x: x)
        shown = [Shown("given", "subject", classes[0], prepare(given.images), given.digest)]
        real = prepare(given_images.again(_real(dataset, classes[0], len(given.images)), Path(path)))
        heard = _hear(panel, choice, shown, console)
        checked = (positive.of_given(panel, real, classes[0], {k: prepare(x) for k, x in given.by_label.items()}),)
        record = _record(panel, choice, dataset, classes, shown, heard, checked)
        name = f"images-{given.digest[:12]}"
        notes = (*_notes(dataset, ()), *given.notes)
        about: dict[str, Any] = {"subject": name, "original": None, "notes": notes, "in_short": (*record["in_short"], *notes)}
        if "fidelity" in choice.judges:
            about["fidelity"] = (Measure(name="fidelity", value=None, n=len(given.images), note=NO_FIDELITY),)
        _write(run, Evaluation.model_validate({**record, **about}), panel, shown)
        return {"images": str(path)}

    return compute(request, work, console)


def images_request(
    classes: tuple[int, ...], dataset: data.Dataset, params: dict[str, Any], digest: str, seed: int, notes: tuple[str, ...] = ()
) -> rundir.Request:
    """What decides an evaluation of images from elsewhere, and so its name; `digest` is that of their pixels, `notes` say what of what was
    given they are."""
    return rundir.Request(
        stage="evaluate",
        method="images",
        classes=classes,
        seed=seed,
        params=params | ({"notes": list(notes)} if notes else {}),
        parents={"images": digest},
        data=dataset.sha256,
        schema_number=2,
    )


def _panel(choice: Choice, dataset: data.Dataset, seed: int, console: Console) -> judging.Panel:
    weights = Path(choice.judge_weights) if choice.judge_weights else None
    return judging.build(choice.judges, dataset, clip_model=choice.clip_model, weights=weights, seed=seed, console=console)


def _samples(case: Case, dataset: data.Dataset, n: int, retain_n: int, seed: int, console: Console) -> dict[str, rundir.Run]:
    """One sample run per role: subject and original at full n, the controls' untouched answers at 100. Little work is done in this
    process: another one takes longer to start."""
    roles = case.roles(dataset)
    full = dict.fromkeys(case.classes, n) | {int(c): retain_n for c in dataset.others(case.classes)}
    plans: dict[str, dict[str, Any]] = {}
    for role, who in roles.items():
        counts = full if role in ("subject", "original") else {case.classes[0]: min(n, CONTROL_N)}
        noise_for = case.classes if role == "subject" else ()
        plans[role] = {"model": who, "counts": counts, "noise_for": noise_for, "data_name": dataset.spec, "seed": seed}
    names = {role: sample_request(**plan).name for role, plan in plans.items()}
    missing = [plan for role, plan in plans.items() if rundir.known(names[role]) is None]
    images = sum(sum(plan["counts"].values()) for plan in missing)
    here = images * case.subject.load().parameters < STARTED
    side_by_side([(sample, plan) for plan in missing], "sampling", replace(console, jobs=1) if here else console)
    return {role: rundir.find(name) for role, name in names.items()}


def _judge(
    panel: judging.Panel,
    case: Case,
    dataset: data.Dataset,
    images: dict[str, dict[str, Tensor]],
    sampled: dict[str, rundir.Run],
    attacks: dict[str, rundir.Run],
    choice: Choice,
    console: Console,
) -> tuple[Evaluation, list[Shown]]:
    asked = case.classes[0]
    shown = []
    for k in case.classes:
        made = {name.removeprefix(f"noise/{k}/"): t for name, t in images["subject"].items() if name.startswith(f"noise/{k}/")}
        shown.append(Shown("untouched", "subject", k, images["subject"][f"class/{k}"], sampled["subject"].digest, made))
    shown += [Shown("untouched", r, asked, images[r][f"class/{asked}"], sampled[r].digest) for r in ROLES[1:] if r in images]
    if "original" in images:
        shown += [Shown("untouched", "original", k, images["original"][f"class/{k}"], sampled["original"].digest) for k in case.classes[1:]]
    indices = {name: run.read_json(INDEX) for name, run in attacks.items()}
    cells = {(name, role): rundir.find(cell) for name, index in indices.items() for role, cell in index["cells"].items() if role != "gate"}
    attacked = {key: images_of(run) for key, run in cells.items()}
    speaker = curves.speaker(panel.judges, panel.cards, asked)
    lines = curves.by_judge(speaker, indices, attacked, asked)
    headlines = curves.headlines(lines)
    for name, headline in headlines.items():
        for role in (r for r in ROLES if (name, r) in attacked):
            found = attacked[name, role][f"{headline['setting']}/{headline['step']}"]
            shown.append(Shown(name, role, asked, found, cells[name, role].digest))
    kept = [int(c) for c in dataset.others(case.classes)]
    heard = _hear(panel, choice, shown, console)
    votes = retained_votes(panel, images, kept)
    checked = positive.controls(panel, case.classes, heard, images["subject"], votes, kept)
    record = _record(panel, choice, dataset, case.classes, shown, heard, checked)
    notes = (*_notes(dataset, case.sources), *dict.fromkeys(c.labels for c in checked if c.passed and c.labels))
    measured = {
        "subject": case.subject.name,
        "original": case.original.name if case.original else None,
        "missing": case.missing(case.roles(dataset)),
        "fano": fano(panel, images["subject"], case.classes, kept),
        "retained": retained(votes, kept),
        "notes": notes,
        "fidelity": fidelity(panel, images, kept, protocol=choice.protocol, inception=choice.inception)
        if "fidelity" in choice.judges
        else (),
        "curve_judge": speaker.name,
        "curves": lines,
        "headlines": headlines,
        "attacks": {
            name: {"run": run.name, "params": run.request.params, "seed": run.request.seed, "models": indices[name]["models"]}
            for name, run in attacks.items()
        },
        "in_short": (*record["in_short"], *wording.attacks(headlines, checked[0]), *notes),
        "gate": (*record["gate"], *curves.all_points(lines)),
    }
    return Evaluation.model_validate({**record, **measured}), shown


def _hear(panel: judging.Panel, choice: Choice, shown: list[Shown], console: Console) -> list[Heard]:
    """What the judges say of each set of images."""
    heard = []
    with console.track("judging", len(shown)) as advance:
        for done, s in enumerate(shown):
            images = stretch(s.images) if PROTOCOLS[choice.protocol].stretch else s.images
            heard.append(judging.hear(panel, images, s.asked, name=s.name, role=s.role, digest=s.digest, made=s.made))
            advance(done + 1)
    return heard


def _real(dataset: data.Dataset, asked: int, n: int) -> Tensor:
    """Up to n real images of the class that no judge was fitted on."""
    return dataset.part("heldout", torch.tensor([asked]))[0][:n]


def _notes(dataset: data.Dataset, sources: tuple[source.Source, ...]) -> tuple[str, ...]:
    """What was taken for granted about the data set and the models."""
    said = [dataset.order, *(s.assumed for s in sources)]
    return tuple(dict.fromkeys(note for note in said if note))


def _record(
    panel: judging.Panel,
    choice: Choice,
    dataset: data.Dataset,
    classes: tuple[int, ...],
    shown: list[Shown],
    heard: list[Heard],
    checked: tuple[Control, ...],
) -> dict[str, Any]:
    """What is said of any images, with or without a model behind them; the first of `shown` for each class are the subject's. The
    verdict on every set of the subject's stands beside the positive control of its class."""
    protocol = PROTOCOLS[choice.protocol]
    by_class = {c.asked: c for c in checked}
    heard = [
        h.model_copy(update={"verdict": controlled(h.verdict, by_class[h.verdict.asked])}) if h.role == "subject" else h for h in heard
    ]
    subjects = heard[: len(classes)]
    verdicts = tuple(h.verdict for h in subjects)
    sentences = [sentence(e.reading, e.excess, panel.cards[e.judge], e.controls, dataset.classes) for h in subjects for e in h.evidence]
    return {
        "verdict": min((v.word for v in verdicts), key=WORST_FIRST.index),
        "verdicts": verdicts,
        "protocol": protocol.name,
        "deviations": (protocol.description, *protocol.deviations),
        "data": dataset.name,
        "class": classes[0],
        "classes": classes,
        "class_names": dataset.classes,
        "judges": choice.judges,
        "missing": {},
        "controls": checked,
        "cards": tuple(panel.cards.values()),
        "sets": tuple(heard),
        "sentences": sentences,
        "fano": (),
        "retained": (),
        "density": density(panel, shown[0].images, classes[0], prepare=stretch if protocol.stretch else None)
        if "density" in choice.judges
        else (),
        "fidelity": (),
        "curve_judge": curves.speaker(panel.judges, panel.cards, classes[0]).name,
        "curves": [],
        "headlines": {},
        "attacks": {},
        "in_short": wording.verdicts(verdicts, subjects, dataset.classes),
        "gate": tuple(e.claim for h in subjects for e in h.evidence),
    }


def _write(run: rundir.Open, record: Evaluation, panel: judging.Panel, shown: list[Shown]) -> None:
    run.write_json(EVALUATION, record.model_dump(mode="json", by_alias=True))
    run.write(PICTURE, imagery.picture(panel, shown[0].images, shown[0].asked, record.verdicts[0]))
