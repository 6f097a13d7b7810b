"""The attack stage: one run per role (subject and controls), shared across subjects by hash, and an index run over them."""

import functools
import importlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from auditkit import data, rundir, sampling, training
from auditkit.errors import UserError, choose
from auditkit.models import Model
from auditkit.results import Measure
from auditkit.stages import source
from auditkit.stages.cell import SILENT, Console, compute, side_by_side
from auditkit.stages.sample import IMAGES, key_of
from auditkit.stages.train import check_fits, make_params
from auditkit_attacks import ATTACKS
from auditkit_attacks.target import AttackResult, Point, Target
from auditkit_evaluators import stats

CURVE, INDEX = "curve.json", "attack.json"
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
    choose("attack", name, ATTACKS)
    dataset = data.load(data_name)
    budget = make_params(importlib.import_module(ATTACKS[name]).Budget, params or {})
    case = find_case(model, original, data_name, classes)
    roles = case.roles(dataset)
    calls = [
        (cell, {"name": name, "target": who, "classes": case.classes, "data_name": dataset.spec, "params": asdict(budget), "seed": seed})
        for role, who in roles.items()
        if role != "gate"  # past the gate lies the original: its run serves both
    ]
    side_by_side(calls, f"attack {name} on {len(calls)} models", console)
    return index(name, case, dataset, budget, seed, console)


@dataclass(frozen=True)
class Case:
    """What is under audit: the subject, its original (or None) and the forgotten classes, the one in question first."""

    subject: source.Source
    original: source.Source | None
    classes: tuple[int, ...]

    @property
    def given(self) -> dict[str, Any]:
        """How to find this case again; kept beside a result and not part of its digest."""
        return {"model": self.subject.spec, "original": self.original.spec if self.original else None}

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
            reasons["retrained"] = f"not measured: no model retrained without class {words} (auditkit retrain --class {words})"
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
    console: Console = SILENT,
) -> rundir.Run:
    """One attack on one model."""
    dataset, module, sampler = data.load(data_name), importlib.import_module(ATTACKS[name]), sampling.Sampler()
    budget = make_params(module.Budget, params)
    request = request_of(name, target, classes, dataset, budget, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        steps = budget.steps * len(budget.lrs)
        with console.track(f"{name} on {target.role}", steps) as advance:
            aim = _aim(target, dataset, classes, sampler)
            result: AttackResult = module.run(aim, budget, seed=seed, state=state, save=save, report=lambda step, _: advance(step))
        run.write(IMAGES, to_bytes({k: t.contiguous() for k, t in result.images.items()}))
        record = {"curve": [p.model_dump() for p in result.curve], "cost": result.cost.model_dump(), "notes": list(result.notes)}
        run.write_json(CURVE, record)
        return {"model": target.name}

    return compute(request, work, console)


def request_of(name: str, target: source.Source, classes: tuple[int, ...], dataset: data.Dataset, budget: Any, seed: int) -> rundir.Request:
    return rundir.Request(
        stage="attack",
        method=name,
        role=target.role,
        classes=classes,
        seed=seed,
        params={**asdict(budget), "sampler": asdict(sampling.Sampler())},
        parents={"model": target.digest},
        data=dataset.sha256,
    )


def _aim(who: source.Source, dataset: data.Dataset, classes: tuple[int, ...], sampler: sampling.Sampler) -> Target:
    """What the attacker of a weights-tier attack is given; data from the model split alone."""
    gated = who.load()
    bare = replace(gated, gate=())

    def draw(model: Model, label: int, n: int, seed: int) -> Tensor:
        return sampling.sample(model, torch.full((n,), label), sampler, seed=key_of(seed, label))

    def images(kind: str) -> tuple[Tensor, Tensor]:
        return dataset.part("model", torch.tensor(classes) if kind == "forget" else dataset.others(classes))

    return Target(
        forget=classes,
        query=lambda label, n, seed: draw(gated, label, n, seed),
        render=draw,
        score=lambda found: int((attackers_judge(dataset.spec)(found) == classes[0]).sum()),
        network=bare.copy,
        data=images,
    )


@functools.cache
def attackers_judge(data_name: str) -> Any:
    """The selection judge: an SVC fitted on the attacker's own images (the model split), apart from every reporting judge."""
    from sklearn.svm import SVC

    images, labels = data.load(data_name).part("model")
    fitted = SVC().fit(images.flatten(1).numpy() / 255, labels.numpy())
    return lambda found: torch.from_numpy(fitted.predict(found.flatten(1).numpy() / 255))


def index(name: str, case: Case, dataset: data.Dataset, budget: Any, seed: int, console: Console) -> rundir.Run:
    """The run that lists one attack's cells and the subject's excess over each floor, by the attacker's judge."""
    roles = case.roles(dataset)
    cells = {
        role: rundir.find(request_of(name, who, case.classes, dataset, budget, seed).name) for role, who in roles.items() if role != "gate"
    }
    curves = {role: [Point.model_validate(p) for p in run.read_json(CURVE)["curve"]] for role, run in cells.items()}
    request = rundir.Request(
        stage="attack",
        method=name,
        role="index",
        classes=case.classes,
        seed=seed,
        params=asdict(budget),
        parents={"model": case.subject.digest, **{role: run.digest for role, run in cells.items()}},
        data=dataset.sha256,
    )

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        record = {
            "attack": name,
            "classes": list(case.classes),
            "cells": {role: c.name for role, c in cells.items()} | ({"gate": cells["original"].name} if "gate" in roles else {}),
            "models": {role: who.name for role, who in roles.items()},
            "missing": case.missing(roles),
            "judge": "an SVC fitted on the attacker's own images (the model split)",
            "curves": {role: [p.model_dump() for p in curve] for role, curve in curves.items()},
            "excess": [m.model_dump() for m in excess(curves)],
        }
        run.write_json(INDEX, record)
        return case.given

    run = compute(request, work, console)
    rundir.point("latest", run)
    return run


def excess(curves: dict[str, list[Point]]) -> list[Measure]:
    """Subject minus each floor at every trained point: 95 % together over all points and learning rates (Bonferroni)."""
    found = []
    for floor in (f for f in FLOORS if f in curves):
        against = {(p.setting, p.step): p for p in curves[floor]}
        trained = [p for p in curves["subject"] if p.step > 0]
        for p in trained:
            q = against[p.setting, p.step]
            found.append(stats.difference(f"{floor}/{p.setting}/{p.step}", p.hits, p.n, q.hits, q.n, comparisons=len(trained)))
    return found
