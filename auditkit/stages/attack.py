"""The attack stage: one run per role (subject and controls), shared across subjects by hash, and an index run over them."""

import importlib
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import save as to_bytes

from auditkit import data, plugin, rundir, sampling, training
from auditkit.errors import UserError, choose
from auditkit.results import Measure
from auditkit.stages import positive, source
from auditkit.stages.aim import aim
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.sample import IMAGES
from auditkit.stages.train import check_fits, make_params
from auditkit.unlearn import METHODS
from auditkit_attacks import ATTACKS, module_of
from auditkit_attacks.target import AttackResult, NotApplicable, Point
from auditkit_evaluators import stats

CURVE, INDEX, GIVEN = "curve.json", "attack.json", "given.safetensors"
INDEX_VERSION = 2  # of an index run's record: 2 has a positive control
FLOORS = ("random", "retrained")


def attack(
    name: str,
    *,
    model: str | None = None,
    original: str | None = None,
    data_name: str = "digits",
    classes: tuple[int, ...] | None = None,
    params: dict[str, Any] | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Attacks a model (the latest unlearned one unless named) and every control that exists; returns the index run."""
    if ":" not in name:
        choose("attack", name, ATTACKS)
    dataset = data.load(data_name)
    budget = make_params(module_of(name).Budget, params or {})
    case = find_case(model, original, data_name, classes)
    calls = calls_of(name, case, dataset, budget, seed)
    side_by_side([(cell, call) for call in calls.values()], f"attack {name} on {len(calls)} models", console)
    return index(name, case, dataset, budget, seed, console)


@dataclass(frozen=True)
class Case:
    """What is under audit: the subject, its original (or None) and the forgotten classes, the one in question first."""

    subject: source.Source
    original: source.Source | None
    classes: tuple[int, ...]

    @property
    def sources(self) -> tuple[source.Source, ...]:
        """The models that are not made from others: the subject, and the original if there is one."""
        return (self.subject, *((self.original,) if self.original else ()))

    @property
    def given(self) -> dict[str, Any]:
        """How to find this case again; kept beside a result and not part of its digest."""
        return {"model": self.subject.spec, "original": self.original.spec if self.original else None}

    @property
    def declared(self) -> dict[str, Any] | None:
        """The subject's method and settings, where that method declares its forget loss."""
        run = self.subject.run
        if run is None or not hasattr(importlib.import_module(METHODS.get(run.request.method, "auditkit.unlearn")), "forget_loss"):
            return None
        settings = {k: v for k, v in run.request.params.items() if k != "version"}
        return {"method": run.request.method, "params": settings}

    def roles(self, dataset: data.Dataset) -> dict[str, source.Source]:
        """The subject and every control that exists. What is missing is named by `missing`."""
        check_fits(self.subject.load(), dataset, self.subject.name)
        roles = {"subject": self.subject, "random": source.random_floor(self.subject)}
        if self.original:
            roles |= {"original": self.original, "gate": source.gated(self.original, self.classes)}
        floor = source.retrained(self.original, dataset.name, dataset.sha256, self.classes)
        floor = None if floor and floor.digest == self.subject.digest else floor  # a retrained subject is not its own floor
        return roles | ({"retrained": floor} if floor else {})

    def missing(self, roles: dict[str, source.Source]) -> dict[str, str]:
        """Why a control is not there, in words for the table."""
        reasons = {}
        if "original" not in roles:
            reasons = dict.fromkeys(("original", "gate"), "not measured: no original given (--original RUN|DIR)")
        if "retrained" not in roles:
            words = ",".join(map(str, self.classes))
            reasons["retrained"] = (
                f"not measured: no model retrained without class {words} (auditkit retrain --class {words}), or it is the subject"
            )
        for also in self.classes[1:]:
            reasons[f"class {also}"] = f"forgotten too, not attacked here (--class {also})"
        return reasons


def find_case(model: str | None, original: str | None, data_name: str, classes: tuple[int, ...] | None) -> Case:
    """The subject, its original and classes, from what was given and what the subject's run says."""
    run = None
    if model is None:
        run = rundir.pointed("latest-model")
        if run is None:
            raise UserError("there is no unlearned model yet: run auditkit unlearn --class 2 first, or give --model RUN|DIR")
        subject = source.of_run(run, "subject")
    else:
        subject = source.named(model, "subject")
        run = subject.run
    forgotten = run.request.classes if run else ()
    if not classes and not forgotten:
        raise UserError(f"--class is needed: {subject.name} does not say which class was forgotten")
    classes = classes or forgotten
    data.load(data_name).check_classes(classes)
    classes += tuple(c for c in forgotten if c not in classes)  # none of them is a retained class
    data.load(data_name).check_classes(classes)
    if original is not None:
        return Case(subject, source.named(original, "original"), classes)
    return Case(subject, source.original_of(run, data_name) if run else None, classes)


def cell(
    name: str,
    target: source.Source,
    classes: tuple[int, ...],
    data_name: str,
    params: dict[str, Any],
    seed: int,
    declared: dict[str, Any] | None = None,
    original: source.Source | None = None,
    console: Console = SILENT,
) -> rundir.Run:
    """One attack on one model. What cannot be measured (weights that overflow, no loss declared) is a result too, with its reason."""
    dataset, module = data.load(data_name), module_of(name)
    budget = make_params(module.Budget, params)
    request = request_of(name, target, classes, dataset, budget, seed, declared, original)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        with console.track(f"{name} on {target.role}", units(budget)) as advance:
            pictures, loss = "pictures" in needs(name), loss_of(declared, classes, len(dataset.classes))
            given = aim(target, dataset, classes, tier=module.TIER, pictures=pictures, loss=loss, original=original)
            try:
                result = module.run(given, budget, seed=seed, state=state, save=save, report=lambda step, _: advance(step))
            except (NotApplicable, FloatingPointError) as error:
                run.write_json(CURVE, {"curve": [], "failed": f"not measured: {error}"})
                return {"model": target.name}
        _write(run, result, gated=bool(set(target.load().gate) & set(classes)) and module.TIER != "query")
        return {"model": target.name}

    return compute(request, work, console)


def _write(run: rundir.Open, result: AttackResult, *, gated: bool) -> None:
    if result.images:
        run.write(IMAGES, to_bytes({k: t.contiguous() for k, t in result.images.items()}))
    if result.given is not None:
        run.write(GIVEN, to_bytes({"given": result.given.contiguous()}))
    notes = (*result.notes, *(("gate removed at step 0: it stands in front of the network, not in it",) if gated else ()))
    record = {
        "curve": [p.model_dump() for p in result.curve],
        "cost": result.cost.model_dump(),
        "notes": list(notes),
        "chosen": result.chosen,
        "kept": result.kept.model_dump() if result.kept else None,
        "measures": [m.model_dump() for m in result.measures],
        "failed": None,
    }
    run.write_json(CURVE, record)


def needs(name: str) -> tuple[str, ...]:
    """What an attack needs beyond its tier: "pictures" of the class, the method's declared "loss", the "original"."""
    found: tuple[str, ...] = getattr(module_of(name), "NEEDS", ())
    return found


def units(budget: Any) -> int:
    """The steps of an attack's progress bar."""
    return int(budget.steps * len(budget.lrs)) if hasattr(budget, "lrs") else 10


def loss_of(declared: dict[str, Any] | None, classes: tuple[int, ...], null: int) -> training.ForgetLoss | None:
    """The forget loss that a method declares for its settings, or None."""
    if declared is None:
        return None
    module = importlib.import_module(METHODS[declared["method"]])
    loss: training.ForgetLoss = module.forget_loss(make_params(module.Params, declared["params"]), classes, null)
    return loss


def request_of(
    name: str,
    target: source.Source,
    classes: tuple[int, ...],
    dataset: data.Dataset,
    budget: Any,
    seed: int,
    declared: dict[str, Any] | None = None,
    original: source.Source | None = None,
) -> rundir.Request:
    """What decides a cell. What the attack does not need stays out of it, so that controls are shared across subjects."""
    wanted = needs(name)
    extra: dict[str, Any] = {"declared": declared} if "loss" in wanted else {}
    version = getattr(module_of(name), "VERSION", 1)
    extra |= {"version": version} if version > 1 else {}
    extra |= plugin_of(name)
    parents = {"model": target.digest}
    if "original" in wanted and original is not None:
        parents["original"] = original.digest
    return rundir.Request(
        stage="attack",
        method=method_of(name),
        role=target.role,
        classes=classes,
        seed=seed,
        params={**asdict(budget), **extra, "sampler": asdict(sampling.Sampler())},
        parents=parents,
        data=dataset.sha256,
        schema_number=2,
    )


def method_of(name: str) -> str:
    """The name of an attack in a run's: "own-" and the function's for a plug-in module:function."""
    return f"own-{plugin.slug(name)}" if ":" in name else name


def plugin_of(name: str) -> dict[str, Any]:
    """What a request says of a plug-in: its name and the hash of its file; nothing for an attack of ours."""
    return {"plugin": [name, module_of(name).sha]} if ":" in name else {}


def calls_of(name: str, case: Case, dataset: data.Dataset, budget: Any, seed: int) -> dict[str, dict[str, Any]]:
    """The arguments of `cell` for one attack on every role; past the gate lies the original, whose run serves both."""
    common = call_of(name, case, dataset, budget, seed)
    asks = module_of(name).TIER == "query"
    return {role: {**common, "target": who} for role, who in case.roles(dataset).items() if role != "gate" or asks}


def call_of(name: str, case: Case, dataset: data.Dataset, budget: Any, seed: int) -> dict[str, Any]:
    """The arguments of `cell` for one attack on the subject; loads no model."""
    common = {"name": name, "classes": case.classes, "data_name": dataset.spec, "params": asdict(budget), "seed": seed}
    common |= {"declared": case.declared if "loss" in needs(name) else None}
    common |= {"original": case.original if "original" in needs(name) else None}
    return {**common, "target": case.subject}


def found(call: dict[str, Any]) -> rundir.Run:
    """The finished run of a call of `cell`."""
    budget = make_params(module_of(call["name"]).Budget, call["params"])
    rest = {key: call[key] for key in ("name", "target", "classes", "seed", "declared", "original")}
    return rundir.find(request_of(dataset=data.load(call["data_name"]), budget=budget, **rest).name)


def index(name: str, case: Case, dataset: data.Dataset, budget: Any, seed: int, console: Console) -> rundir.Run:
    """The run that lists one attack's cells and the subject's excess over each floor, by the attacker's judge."""
    roles = case.roles(dataset)
    cells = {role: found(call) for role, call in calls_of(name, case, dataset, budget, seed).items()}
    curves = {role: [Point.model_validate(p) for p in run.read_json(CURVE)["curve"]] for role, run in cells.items()}
    request = index_request(name, case, dataset, budget, seed, {role: run.digest for role, run in cells.items()})

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        record = {
            "attack": name,
            "classes": list(case.classes),
            "cells": {role: c.name for role, c in cells.items()} | ({"gate": past_gate(cells).name} if "gate" in roles else {}),
            "models": {role: who.name for role, who in roles.items()},
            "missing": case.missing(roles),
            "judge": "an SVC fitted on the attacker's own images (the model split)",
            "curves": {role: [p.model_dump() for p in curve] for role, curve in curves.items()},
            "notes": {role: c.read_json(CURVE).get("notes", []) for role, c in cells.items()},
            "failed": {role: c.read_json(CURVE)["failed"] for role, c in cells.items() if c.read_json(CURVE)["failed"]},
            "excess": [m.model_dump() for m in excess(curves)],
            "control": positive.of_attack(dataset, case.original, case.subject, case.classes, seed, console).model_dump(),
        }
        run.write_json(INDEX, record)
        return case.given

    run = compute(request, work, console)
    rundir.point("latest", run)
    return run


def index_request(name: str, case: Case, dataset: data.Dataset, budget: Any, seed: int, cells: dict[str, str]) -> rundir.Request:
    """What decides an index, and so its name; `cells` holds the digest of each role's cell."""
    return rundir.Request(
        stage="attack",
        method=method_of(name),
        role="index",
        classes=case.classes,
        seed=seed,
        params={**asdict(budget), **plugin_of(name), "version": INDEX_VERSION},
        parents={"model": case.subject.digest, **cells},
        data=dataset.sha256,
    )


def past_gate(cells: dict[str, rundir.Run]) -> rundir.Run:
    """What the gate's row shows: its own run where the attack asks, else the original's, which lies behind it."""
    return cells.get("gate", cells["original"])


def reported(curve: list[Point]) -> list[Point]:
    """The points that count: an attacker's choice on fresh seeds, or every point but those before the first step."""
    chosen = [p for p in curve if p.setting == "chosen"]
    begun = {p.setting for p in curve if p.step > 0}
    return chosen or [p for p in curve if p.step > 0 or p.setting not in begun]


def excess(curves: dict[str, list[Point]]) -> list[Measure]:
    """Subject minus each floor at every reported point: 95 % together over all of them (Bonferroni)."""
    listed = []
    for floor in (f for f in FLOORS if f in curves):
        against = {(p.setting, p.step): p for p in curves[floor]}
        counted = [p for p in reported(curves["subject"]) if (p.setting, p.step) in against]
        for p in counted:
            q = against[p.setting, p.step]
            listed.append(stats.difference(f"{floor}/{p.setting}/{p.step}", p.hits, p.n, q.hits, q.n, comparisons=len(counted)))
    return listed
