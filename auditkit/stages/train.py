"""The stages that make a model: pretrain, retrain, unlearn."""

import importlib
from typing import Any

import torch

from auditkit import data, models, precision, rundir, training
from auditkit.errors import UserError, choose
from auditkit.results import requested
from auditkit.stages import ledger, source
from auditkit.stages.cell import SILENT, Console, compute
from auditkit.unlearn import METHODS
from auditkit.unlearn import retrain as from_scratch


def pretrain(
    data_name: str = "digits",
    *,
    architecture: str | None = None,
    params: dict[str, Any] | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> rundir.Run:
    """Trains a base denoiser on the model split of a data set: one of models.ARCHITECTURES, by default the one that fits its images."""
    dataset = data.load(data_name)
    blank, called, fitted = blank_model(dataset, architecture, params or {}, seed)
    request = pretrain_request(dataset, called, fitted, seed)
    if torch.cuda.is_available():
        blank.net.to("cuda")
    return _train(request, from_scratch, blank, dataset, fitted, console)


def pretrain_request(dataset: data.Dataset, architecture: str, fitted: from_scratch.Params, seed: int) -> rundir.Request:
    """What decides a base model, and so its name."""
    asked = requested(fitted) | ({"architecture": architecture} if architecture != "digits" else {})  # as runs were named
    return rundir.Request(stage="pretrain", method=dataset.name, role="original", seed=seed, params=asked, data=dataset.sha256)


def blank_model(
    dataset: data.Dataset, architecture: str | None, params: dict[str, Any], seed: int
) -> tuple[models.Model, str, from_scratch.Params]:
    """Random weights for a data set's images, the name of their architecture, and the recipe that goes with it, changed by `params`."""
    called = choose("architecture", architecture or models.fitting(dataset.shape), models.ARCHITECTURES)
    fitted = make_params(from_scratch.Params, from_scratch.RECIPES[called] | params)
    return models.build(dataset.shape, len(dataset.classes), seed=seed, architecture=models.ARCHITECTURES[called]), called, fitted


def retrain(
    classes: tuple[int, ...],
    *,
    data_name: str = "digits",
    original: str | None = None,
    params: dict[str, Any] | None = None,
    seed: int = 0,
    point: bool = True,
    console: Console = SILENT,
) -> rundir.Run:
    """Trains the original's architecture from scratch without `classes`: the reference and the floor."""
    given: dict[str, Any] = {"data_name": data_name, "original": original, "params": params, "seed": seed, "point": point}
    return unlearn("retrain", classes, **given, console=console)


def unlearn(
    method: str,
    classes: tuple[int, ...],
    *,
    data_name: str = "digits",
    original: str | None = None,
    params: dict[str, Any] | None = None,
    seed: int = 0,
    point: bool = True,
    console: Console = SILENT,
) -> rundir.Run:
    """Unlearns `classes` from the original with a method; the run holds the model folder. With `point` the next commands mean this
    model."""
    choose("method", method, METHODS)
    dataset, classes = data.load(data_name), tuple(sorted(classes))
    dataset.check_classes(classes)
    module = importlib.import_module(METHODS[method])
    start = find_original(data_name, original)
    fitted = make_params(module.Params, recipe_of(start, method, params or {}) | (params or {}))
    model = start.load()
    check_fits(model, dataset, start.name)
    request = unlearn_request(method, classes, fitted, start, dataset, seed)
    return _train(request, module, model, dataset, fitted, console, point=point)


def unlearn_request(
    method: str, classes: tuple[int, ...], fitted: Any, start: source.Source, dataset: data.Dataset, seed: int
) -> rundir.Request:
    """What decides an unlearned or retrained model, and so its name."""
    stage, role = ("retrain", "retrained") if method == "retrain" else ("unlearn", "subject")
    return rundir.Request(
        stage=stage,
        method=method,
        role=role,
        classes=classes,
        seed=seed,
        params=requested(fitted)
        | ({"version": 2} if getattr(fitted, "forget_data", "real") == "generated" else {}),  # drawn from OWN seeds
        parents={"original": start.digest},
        data=dataset.sha256,
    )


def _train(
    request: rundir.Request,
    module: Any,
    start: models.Model,
    dataset: data.Dataset,
    params: Any,
    console: Console,
    *,
    point: bool = True,
) -> rundir.Run:
    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        steps = getattr(params, "steps", 1)
        phases = ledger.Phases()
        with console.track(f"{request.stage} {request.method}", steps) as advance, ledger.peak() as highest:
            report = phases.step(advance)
            model = module.run(start, dataset, request.classes, params, seed=request.seed, state=state, save=save, report=report)
            spent = {"seconds": phases.seconds, "peak_mb": highest(), "resumed": state is not None}
        models.save(model, run.path / "model")
        seen = int(torch.isin(dataset.part("model")[1], torch.tensor(request.classes)).sum()) if request.classes else 0
        rows = ledger.evaluations(module, params, forget_images=seen, classes=len(dataset.classes))
        about = {"steps": steps, "parameters": model.parameters, "ema": bool(getattr(params, "ema", 0.0))}
        about |= {"precision": precision.name(model.net)}
        return about | {"spent": spent | {"evaluations": rows}}

    run = compute(request, work, console)
    if not point:
        return run
    if request.stage == "unlearn":  # not retrain: who makes a floor still wants to attack the subject
        rundir.point("latest-model", run)
    rundir.point("latest", run)
    return run


def find_original(data_name: str, original: str | None) -> source.Source:
    """The model to start from: what `--original` names, else the bundled one. Raises UserError when there is neither."""
    if original is not None:
        return source.named(original, "original")
    found = source.bundled(data_name)
    if found is None:
        raise UserError(
            f"no model is bundled for {data_name}: give --original RUN|DIR, or make one with auditkit pretrain --data {data_name}"
        )
    return found


def recipe_of(original: source.Source, method: str, given: dict[str, Any]) -> dict[str, float]:
    """The settings with which a floor is trained like the model that it stands beside: those of its own run, else those that go with its
    architecture; nothing for other methods than retraining.

    Raises UserError where nothing is known of that architecture and `given` does not say steps and learning rate.
    """
    if method != "retrain":
        return {}
    run = original.run
    if run is not None and run.request.stage == "pretrain":
        return {name: run.request.params[name] for name in from_scratch.Params.__dataclass_fields__ if name in run.request.params}
    widths = list(original.load().net.config.get("block_out_channels", ()))
    known = [name for name, made in models.ARCHITECTURES.items() if list(made["block_out_channels"]) == widths]
    if known:
        return from_scratch.RECIPES[known[0]]
    if not {"steps", "lr"} <= given.keys():
        raise UserError(
            f"{original.name} has an architecture of its own ({widths}), and how it was trained is not known: "
            "say --set steps=N --set lr=X, so that the floor learns as long as it did"
        )
    return {}


def check_fits(model: models.Model, dataset: data.Dataset, name: str) -> None:
    """Raises UserError unless the model speaks of this data set's images and classes."""
    wanted, found = (*dataset.shape, len(dataset.classes)), (*model.image_shape, model.null)
    if model.codec is None and model.shape[0] == 4 and dataset.shape[0] in (1, 3):
        raise UserError(f"{name} works on 4 latent channels and has no VAE: give the pipeline's folder, with model_index.json and vae")
    if wanted != found:
        null = "; its last class row is taken for the null class, and a model without one is not read yet"
        raise UserError(
            f"{name} makes images {found[:3]} of {found[3]} classes, but {dataset.name} has {wanted[:3]} and {wanted[3]}"
            f"{null if found[3] == wanted[3] - 1 else ''}"
        )
    called = {k: {part.strip().casefold() for part in text.split(",")} for k, text in model.names.items()}
    for k, word in enumerate(dataset.classes):
        meant = [label for label, words in called.items() if word.casefold() in words]
        if meant and k not in meant:
            raise UserError(f"class {k} of {dataset.name} is {word!r}, which is class {meant[0]} of {name}: both need one order of classes")


def make_params(kind: Any, given: dict[str, Any]) -> Any:
    """`kind(**given)`, each value converted to its field's type. Raises UserError for an unknown or unfit setting."""
    fields = kind.__dataclass_fields__
    converted = {}
    for name, value in given.items():
        key = choose("setting", name.replace("-", "_"), fields)
        converted[key] = convert(value, fields[key].type, name)
    return kind(**converted)


def convert(value: Any, kind: Any, name: str) -> Any:
    """A setting given as text ("5e-4", "true", "1e-4,5e-4"), as the type that its field declares."""
    try:
        if kind is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError
        if kind in (int, float, str):
            return kind(value)
        return tuple(float(v) for v in (value.split(",") if isinstance(value, str) else value))
    except (ValueError, KeyError, TypeError, OverflowError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "numbers separated by commas")
        raise UserError(f"setting {name} takes {wanted}, got {value!r}") from None
