"""Who is attacked in a suite, with what, and with which seed: the subject unlearned again for every training seed, and its controls."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from auditkit import data
from auditkit.errors import UserError, choose
from auditkit.stages import source
from auditkit.stages.attack import Case, calls_of, find_case
from auditkit.stages.cell import SILENT, Console
from auditkit.stages.pooling import Key
from auditkit.stages.train import make_params, retrain, unlearn
from auditkit_attacks import BUDGETS, LONGER, SUITES, module_of

SECOND = 1  # the training seed of the second retrained floor


@dataclass(frozen=True)
class Lineup:
    """Every cell of a suite: (training seed, attack, role) to the arguments of `cell`; `rest` names the controls that are missing."""

    case: Case
    calls: dict[Key, dict[str, Any]]
    rest: dict[str, str]


def count_of(name: str, seeds: int | None) -> int:
    """The number of training seeds of a suite."""
    return seeds if seeds is not None else 1 if name == "quick" else 5


def lineup(
    name: str,
    model: str | None,
    original: str | None,
    dataset: data.Dataset,
    classes: tuple[int, ...] | None,
    seeds: int | None,
    seed: int,
    console: Console = SILENT,
    *,
    dry: bool = False,
) -> Lineup:
    """Every cell. The first training seed is the subject itself; for the others, a model that auditkit unlearned is unlearned again
    (not when `dry`). Random networks and attacks have a seed of their own in each."""
    choose("suite", name, SUITES)
    count = count_of(name, seeds)
    if not 1 <= count <= 100:
        raise UserError(f"--seeds takes 1 to 100, got {count}")
    case = find_case(model, original, dataset.spec, classes)
    calls: dict[Key, dict[str, Any]] = {}
    second = _second_floor(case, dataset, console) if name != "quick" and not dry else None
    for s in range(seed, seed + count):
        one = case if dry or s == seed else _again(case, s - seed, dataset, console)
        for attack in SUITES[name]:
            budget = _budget(attack, dataset, case, longer=name == "full")
            for role, call in calls_of(attack, one, dataset, budget, s).items():
                who = source.random_floor(one.subject, s) if role == "random" else call["target"]
                who = second if role == "retrained" and second is not None and (s - seed) % 2 else who
                calls[s, attack, role] = {**call, "target": who}
            if name != "quick" and not dry:
                sham = _sham(one, s, dataset, console)
                if sham is not None:
                    calls[s, attack, "sham"] = {**calls[s, attack, "subject"], "target": sham}
    return Lineup(case, calls, case.missing(case.roles(dataset)))


def _budget(attack: str, dataset: data.Dataset, case: Case, *, longer: bool) -> Any:
    """The suite's budget, with no more pictures of the class than the attacker can have."""
    kind = module_of(attack).Budget
    budget = make_params(kind, {**BUDGETS.get(attack, {}), **(LONGER.get(attack, {}) if longer else {})})
    have = len(dataset.part("model", torch.tensor(case.classes[:1]))[1])
    return replace(budget, images=have) if 0 < have < getattr(budget, "images", 0) else budget


def _by_its_method(
    case: Case, classes: tuple[int, ...], seed: int, role: str, dataset: data.Dataset, console: Console
) -> source.Source | None:
    """What the subject's method and settings make with other classes or another seed; None where auditkit did not unlearn it."""
    run = case.subject.run
    if run is None or run.request.stage != "unlearn" or case.original is None:
        return None
    how: dict[str, Any] = {"data_name": dataset.spec, "original": case.original.spec, "params": run.request.params, "seed": seed}
    return source.of_run(unlearn(run.request.method, classes, **how, point=False, console=console), role)


def _again(case: Case, ahead: int, dataset: data.Dataset, console: Console) -> Case:
    """The same case with the subject unlearned with a training seed so far `ahead`, where auditkit unlearned it."""
    run = case.subject.run
    made = _by_its_method(case, run.request.classes, run.request.seed + ahead, "subject", dataset, console) if run else None
    return replace(case, subject=made) if made else case


def _second_floor(case: Case, dataset: data.Dataset, console: Console) -> source.Source | None:
    """A second model trained without the class, for every other training seed: one retrained model may be lucky."""
    if case.original is None or "retrained" not in case.roles(dataset):
        return None
    first = case.roles(dataset)["retrained"].run
    made = retrain(
        case.classes,
        data_name=dataset.spec,
        original=case.original.spec,
        params=first.request.params if first else None,
        seed=SECOND,
        point=False,
        console=console,
    )
    if made.digest in (case.subject.digest, first.digest if first else ""):
        return None
    return source.of_run(made, "retrained")


def _sham(case: Case, seed: int, dataset: data.Dataset, console: Console) -> source.Source | None:
    """The subject's method applied to another class: a ceiling, since the class in question was not touched."""
    other = next(k for k in [*range(case.classes[0] + 1, len(dataset.classes)), *range(case.classes[0])] if k not in case.classes)
    return _by_its_method(case, (other,), seed, "sham", dataset, console)
