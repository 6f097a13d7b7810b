"""What each costly command would spend, for --dry-run: the same checks as the command, nothing written."""

import importlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from auditkit import data, sampling
from auditkit.errors import UserError, choose
from auditkit.stages import ledger, matching, positive, source
from auditkit.stages.attack import Case, calls_of, find_case
from auditkit.stages.choice import Choice, Counts, counts_of
from auditkit.stages.compare import FLOORS, budget_of, check
from auditkit.stages.cost import Estimate, estimate
from auditkit.stages.evaluate import CONTROL_N
from auditkit.stages.latest import latest_case
from auditkit.stages.lineup import lineup
from auditkit.stages.train import blank_model, find_original, make_params, recipe_of
from auditkit.unlearn import METHODS
from auditkit_attacks import ATTACKS, AUDITED, module_of
from auditkit_attacks.costs import Size, evaluations


def plan_unlearn(method: str, classes: tuple[int, ...], *, data_name: str, original: str | None, params: dict[str, Any]) -> Estimate:
    """The cost of one unlearning run."""
    dataset = data.load(data_name)
    dataset.check_classes(classes)
    choose("method", method, METHODS)
    start = find_original(data_name, original)
    rows = _making(method, recipe_of(start, method, params) | params, dataset, classes)
    return estimate(start.load(), evaluations=rows, images=0, n=500, models=1)


def plan_pretrain(data_name: str, params: dict[str, Any], architecture: str | None = None) -> Estimate:
    """The cost of a base model."""
    dataset = data.load(data_name)
    blank, _, fitted = blank_model(dataset, architecture, params, 0)
    return estimate(blank, evaluations=_making("retrain", asdict(fitted), dataset, ()), images=0, n=500, models=1)


def plan_sample(model: source.Source, counts: dict[int, int], *, data_name: str, sampler: sampling.Sampler) -> Estimate:
    """The cost of sampling; n is that of one class."""
    data.load(data_name).check_labels(counts)
    images = sum(counts.values())
    return estimate(model.load(), evaluations=images * sampler.passes, images=images, n=max(counts.values()))


def plan_attack(
    name: str, *, model: str | None, original: str | None, data_name: str, classes: tuple[int, ...] | None, params: dict[str, Any]
) -> Estimate:
    """The cost of an attack on the subject and every control that exists; finished cells are not subtracted."""
    if ":" in name:
        raise UserError(f"what {name} costs is known when it has run: leave out --dry-run")
    dataset, case = data.load(data_name), find_case(model, original, data_name, classes)
    budget = make_params(module_of(choose("attack", name, ATTACKS)).Budget, params)
    cells = len(calls_of(name, case, dataset, budget, 0))
    each = evaluations(name, budget, size_of(dataset, case.classes))
    n = getattr(budget, "n", 100)
    control = positive.images_needed(case.original, dataset, case.classes)
    spent, images = cells * each + control * sampling.Sampler().passes, cells * _images(budget) + control
    return estimate(case.subject.load(), evaluations=spent, images=images, n=n)


def plan_suite(
    name: str, *, model: str | None, original: str | None, data_name: str, classes: tuple[int, ...] | None, seeds: int | None
) -> Estimate:
    """The cost of a suite; finished cells are not subtracted. n is the smallest of any cell."""
    dataset = data.load(data_name)
    made = lineup(name, model, original, dataset, classes, seeds, 0, dry=True)
    size, total, images, least = size_of(dataset, made.case.classes), 0, 0, 10**9
    for (_, attack, role), call in made.calls.items():
        budget = make_params(module_of(attack).Budget, call["params"])
        copies = 2 if role == "subject" and name != "quick" else 1  # the sham control is planned when the suite runs
        total += copies * evaluations(attack, budget, size)
        images += copies * _images(budget)
        least = min(least, getattr(budget, "n", least))
    control = positive.images_needed(made.case.original, dataset, made.case.classes)
    control += 2 * positive.images_needed(None, dataset, made.case.classes) if made.case.original else 0  # and what other labels draw
    total, images = total + control * sampling.Sampler().passes, images + control
    return estimate(made.case.subject.load(), evaluations=total, images=images, n=least)


def default_costs(data_name: str = "digits") -> dict[str, int]:
    """Network evaluations of each attack on one model at its default budget, for the list."""
    dataset = data.load(data_name)
    size = size_of(dataset, (0,))
    return {name: evaluations(name, importlib.import_module(path).Budget(), size) for name, path in ATTACKS.items()}


def size_of(dataset: data.Dataset, classes: tuple[int, ...]) -> Size:
    """The data set as an attacker meets it."""
    mine = torch.isin(dataset.labels, torch.tensor(classes[:1]))
    seen = int((mine & torch.from_numpy(dataset.split == "model")).sum())
    return Size(len(dataset.classes), len(dataset.classes) - len(classes), seen, int(mine.sum()) - seen)


def _images(budget: Any) -> int:
    """Images that an attack stores."""
    return int(getattr(budget, "n", 0)) * (len(budget.points) * len(budget.lrs) if hasattr(budget, "lrs") else 1)


def plan_evaluate(
    *, model: str | None, original: str | None, data_name: str, classes: tuple[int, ...] | None, n: int, retain_n: int
) -> Estimate:
    """The cost of sampling what is judged; the judges themselves take seconds on top."""
    dataset, case = data.load(data_name), latest_case(model, original, data_name, classes)
    images = _evaluated(case, dataset, n, retain_n)
    return estimate(case.subject.load(), evaluations=images * sampling.Sampler().passes, images=images, n=n)


def plan_audit(
    classes: tuple[int, ...] | None,
    *,
    model: str | None,
    original: str | None,
    data_name: str,
    method: str,
    params: dict[str, dict[str, Any]],
) -> Estimate:
    """The cost of an audit from nothing."""
    dataset = data.load(data_name)
    if model:
        case = find_case(model, original, data_name, classes)
    else:
        if classes is None:
            raise UserError("--class is needed: the class to forget, for example --class 2")
        dataset.check_classes(classes)
        start = find_original(data_name, original)
        case = Case(start, start, classes)
    cells = len(case.roles(dataset).keys() - {"gate"})
    budgets = {name: make_params(module_of(name).Budget, params.get(name, {})) for name in AUDITED}
    choose("method", method, METHODS)
    settings = recipe_of(case.subject, method, params.get("unlearn", {})) | params.get("unlearn", {})
    making = 0 if model else _making(method, settings, dataset, case.classes)
    counts = asdict(make_params(Counts, params.get("evaluate", {})))
    judged, size = _evaluated(case, dataset, **counts), size_of(dataset, case.classes)
    judged += positive.images_needed(case.original, dataset, case.classes)
    spent = cells * sum(evaluations(name, budget, size) for name, budget in budgets.items())
    spent += judged * sampling.Sampler().passes
    images = cells * sum(map(_images, budgets.values())) + judged
    return estimate(case.subject.load(), evaluations=spent + making, images=images, n=counts["n"], models=1)


def plan_compare(
    methods: Sequence[str],
    classes: tuple[int, ...],
    *,
    seeds: int,
    attack: str | None,
    budget: dict[str, Any] | None = None,
    counts: dict[str, Any],
    protocol: str = "clean",
    judges: tuple[str, ...] = ("ensemble", "clip"),
    judge_weights: str | None = None,
    data_name: str,
    original: str | None,
    fidelity: float | None = None,
    **_: Any,
) -> Estimate:
    """The cost of a comparison from nothing, but for floors that have to be trained; judges take seconds a model on top."""
    dataset, entries, many = data.load(data_name), check(methods, classes, data_name, attack), len(classes) * seeds
    how, start = counts_of(counts, protocol), find_original(data_name, original)
    Choice(judges=judges, protocol=protocol, judge_weights=judge_weights).check(dataset)
    made = [e for e in entries if e.method != "retrain"]
    extra = 0
    if fidelity is not None:
        trials = len(classes) * len(matching.FACTORS)
        extra = trials * sum(_making(e.method, e.params, dataset, classes[:1]) for e in made)
        extra += trials * len(made) * (matching.ASKED + matching.KEPT * (len(dataset.classes) - 1)) * sampling.Sampler().passes
    spent = extra + many * sum(_making(e.method, e.params, dataset, classes[:1]) for e in made)
    images = len(entries) * many * (2 * how["n"] + (len(dataset.classes) - 1) * how["retain_n"])
    spent += images * sampling.Sampler().passes
    if attack is not None:
        fitted = budget_of(attack, budget)
        cells = many * (len(entries) + len(FLOORS))
        spent += cells * evaluations(attack, fitted, size_of(dataset, classes[:1]))
        images += cells * _images(fitted)
    return estimate(start.load(), evaluations=spent, images=images, n=how["n"], models=len(made) * many)


def _making(method: str, params: dict[str, Any], dataset: data.Dataset, classes: tuple[int, ...]) -> int:
    """Network evaluations of one training run, with what comes before it."""
    module = importlib.import_module(METHODS[method])
    fitted = make_params(module.Params, params)
    seen = size_of(dataset, classes).seen if classes else 0
    return sum(ledger.evaluations(module, fitted, forget_images=seen, classes=len(dataset.classes)).values())


def _evaluated(case: Case, dataset: data.Dataset, n: int, retain_n: int) -> int:
    """Sampled images: subject and original in full, the subject's matched noise, 100 of each control."""
    kept = len(dataset.classes) - len(case.classes)
    full = 2 if case.original else 1
    controls = len(case.roles(dataset).keys() - {"subject", "original"})
    return (full + 1) * n * len(case.classes) + full * kept * retain_n + controls * min(n, CONTROL_N)
