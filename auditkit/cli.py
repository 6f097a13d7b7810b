"""The command line: parse, call one stage, print the run. Nothing heavy is imported before a command runs."""

import os
from typing import Annotated, Any

import typer

from auditkit import cli_attacks, cli_bench, cli_compare, cli_judges, cli_models, cli_runs, plugin, settings
from auditkit.errors import RunError, UserError, choose
from auditkit.options import (
    COMMANDS,
    PROTOCOLS,
    Classes,
    ClipModel,
    Data,
    DryRun,
    FailOn,
    Inception,
    Jobs,
    Json,
    Judges,
    JudgeWeights,
    Model,
    NoWait,
    Original,
    Protocol,
    Seed,
    Set,
    by_command,
    collect,
    console,
    dry,
    finish,
    needed,
    parse_classes,
    parse_judges,
)
from auditkit.unlearn import METHODS

app = typer.Typer(
    name="auditkit",
    help="Has this generative model really forgotten? Unlearns, attacks, judges, and judges its judges.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_runs.runs, name="runs")
app.add_typer(cli_judges.judges, name="judges")


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; with AUDITKIT_DEBUG set, errors keep their traceback."""
    from auditkit import terminal

    try:
        code = app(args=arguments, standalone_mode=False)
        if code == 130:  # what Typer makes of Ctrl-C
            terminal.say("interrupted; run the same command again and it goes on where it stopped")
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return 130
    except typer.TyperException as error:
        terminal.fail("error", error.format_message())
        return 2
    except (UserError, RunError, FloatingPointError, OSError) as error:
        if os.environ.get("AUDITKIT_DEBUG"):
            raise
        mistake = isinstance(error, UserError)
        terminal.fail("error" if mistake else "failed", str(error))
        return 2 if mistake else 1
    except Exception as error:  # one line for a bug too; what was computed is kept
        if os.environ.get("AUDITKIT_DEBUG"):
            raise
        terminal.fail("bug", f"{type(error).__name__}: {error} (AUDITKIT_DEBUG=1 shows where)")
        return 1


@app.command()
def unlearn(
    classes: Classes = None,
    method: Annotated[str, typer.Option("--method", help=f"{', '.join(METHODS)}.")] = "safemax",
    original: Original = None,
    data: Data = "digits",
    steps: Annotated[int | None, typer.Option(help="Training steps.", rich_help_panel="SAFEMax")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's (largest) learning rate.", rich_help_panel="SAFEMax")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine or constant learning rate.", rich_help_panel="SAFEMax")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of each kind in a step.", rich_help_panel="SAFEMax")] = None,
    lam: Annotated[float | None, typer.Option(help="lambda of psi(t) = exp(-lambda t / T).", rich_help_panel="SAFEMax")] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the retain loss.", rich_help_panel="SAFEMax")] = None,
    target: Annotated[str | None, typer.Option(help="terminal, mean or latent.", rich_help_panel="SAFEMax")] = None,
    psi: Annotated[str | None, typer.Option(help="exponential, reversed, constant, linear or snr.", rich_help_panel="SAFEMax")] = None,
    psi_normalise: Annotated[
        bool | None, typer.Option("--psi-normalise", help="Divide psi by its mean.", rich_help_panel="SAFEMax")
    ] = None,
    retain_class_dropout: Annotated[float | None, typer.Option(help="Label dropout on retain rows.", rich_help_panel="SAFEMax")] = None,
    forget_class_dropout: Annotated[float | None, typer.Option(help="Label dropout on forget rows.", rich_help_panel="SAFEMax")] = None,
    forget_data: Annotated[str | None, typer.Option(help="real, generated or noise.", rich_help_panel="SAFEMax")] = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Unlearn a class: SAFEMax, its rivals, the gate strawman, or retraining without it."""
    forget = needed(classes)
    choose("method", method, METHODS)
    shown = console(no_wait=no_wait)
    options = {
        "steps": steps,
        "lr": lr,
        "schedule": schedule,
        "batch": batch,
        "lam": lam,
        "alpha": alpha,
        "target": target,
        "psi": psi,
        "psi_normalise": psi_normalise,
        "retain_class_dropout": retain_class_dropout,
        "forget_class_dropout": forget_class_dropout,
        "forget_data": forget_data,
    }
    params = collect("unlearn", METHODS[method], "Params", set_, **options)
    from auditkit import show_compare, stages

    if dry_run:
        return dry("unlearn", as_json, stages.plan_unlearn(method, forget, data_name=data, original=original, params=params))
    done = stages.unlearn(method, forget, data_name=data, original=original, params=params, seed=seed, console=shown)
    details, names = done.result.details, ",".join(map(str, forget))
    ema = "averaged weights (EMA)" if details["ema"] else "raw weights, EMA off"
    shown.say(f"{method} on class {names}: {details['steps']} steps, {done.result.seconds:.1f} s, {ema}")
    if "spent" in details:  # not in runs of before
        shown.say(f"cost: {show_compare.cost([details['spent']])}")
    finish(done, as_json, {"details": done.result.details})


@app.command()
def pretrain(
    data: Data = "digits",
    architecture: Annotated[
        str | None, typer.Option(help="digits (default up to 16 x 16 pixels), small (above), or cifar10: the papers' 38.6 M parameters.")
    ] = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Train a base denoiser from scratch (the bundled digits model was made so)."""
    shown = console(no_wait=no_wait)
    params = collect("pretrain", "auditkit.unlearn.retrain", "Params", set_)
    from auditkit import stages

    if dry_run:
        return dry("pretrain", as_json, stages.plan_pretrain(data, params, architecture))
    finish(stages.pretrain(data, architecture=architecture, params=params, seed=seed, console=shown), as_json)


@app.command()
def retrain(
    classes: Classes = None,
    original: Original = None,
    data: Data = "digits",
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Train from scratch without a class: the floor that every relearning attack needs."""
    forget = needed(classes)
    shown = console(no_wait=no_wait)
    params = collect("retrain", "auditkit.unlearn.retrain", "Params", set_)
    from auditkit import stages

    if dry_run:
        return dry("retrain", as_json, stages.plan_unlearn("retrain", forget, data_name=data, original=original, params=params))
    finish(stages.retrain(forget, data_name=data, original=original, params=params, seed=seed, console=shown), as_json)


@app.command()
def sample(
    classes: Classes = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Images of each class.")] = 64,
    model: Model = None,
    data: Data = "digits",
    sampler: Annotated[str | None, typer.Option(help="ddim (default), ddpm or dpm (DPM-Solver++ 2M).")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps (25).")] = None,
    eta: Annotated[float | None, typer.Option(help="DDIM's eta (0).")] = None,
    guidance: Annotated[float | None, typer.Option(help="w in (1+w) eps_c - w eps_null (1).")] = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Sample a model: a PNG grid and the images as one file."""
    chosen = needed(classes)
    shown = console(no_wait=no_wait)
    params = collect("sample", "auditkit.sampling", "Sampler", set_, kind=sampler, steps=steps, eta=eta, guidance=guidance)
    from auditkit import sampling, stages
    from auditkit.stages import source
    from auditkit.stages.train import make_params

    how = make_params(sampling.Sampler, params)
    who, counts = source.chosen(model, data), dict.fromkeys(chosen, n)
    if dry_run:
        return dry("sample", as_json, stages.plan_sample(who, counts, data_name=data, sampler=how))
    done = stages.sample(who, counts, data_name=data, sampler=how, seed=seed, console=shown)
    shown.say(f"{n} images of each of {len(chosen)} classes from {who.name}: {done.path / 'grid.png'}")
    finish(done, as_json)


@app.command()
def attack(
    name: Annotated[str | None, typer.Argument(metavar="ATTACK|SUITE", help="An attack, or quick, standard or full.")] = None,
    own: Annotated[str | None, typer.Option("--attack", metavar="MODULE:FUNCTION", help="An attack of your own (docs/attacks.md).")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List every attack with its tier, cost and suites.")] = False,
    steps: Annotated[int | None, typer.Option(help="Fine-tuning steps.")] = None,
    images: Annotated[int | None, typer.Option(help="Images of the class that the attacker has (relearn).")] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates, separated by commas.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images judged at each point of the curve.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Training seeds of a suite (quick 1, standard and full 5).")] = None,
    model: Model = None,
    original: Original = None,
    data: Data = "digits",
    classes: Classes = None,
    judge_weights: JudgeWeights = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
) -> None:
    """Attack a model and its controls, by one attack or by a suite: a curve means something only beside its floors."""
    from auditkit_attacks import ATTACKS, SUITES, module_of

    if own is not None and (name is not None or listed):
        raise UserError(f"--attack {own} is an attack of your own: leave out {name or '--list'}")
    if own is not None:
        plugin.check("--attack", own)
    if listed:
        return cli_attacks.listing(as_json)
    name = name or own
    if name is None:
        raise UserError("which attack? Give one of auditkit attack --list, or a suite: quick, standard, full")
    if own is None:
        choose("attack or suite", name, (*ATTACKS, *SUITES))
    options = {"steps": steps, "images": images, "lrs": lr, "n": n}
    where: dict[str, Any] = {"model": model, "original": original, "data_name": data, "classes": parse_classes(classes)}
    if name in SUITES:
        given = [f"--{o}" for o, value in options.items() if value is not None] + (["--set"] if set_ else [])
        if given:
            raise UserError(
                f"a suite has no settings, so that suites can be compared: leave out {', '.join(given)}, or run one attack alone"
            )
        return cli_attacks.suite(name, where, judge_weights, seeds, seed, as_json, dry_run, no_wait, jobs)
    if seeds is not None or judge_weights is not None:
        raise UserError("--seeds and --judge-weights belong to a suite (quick, standard, full)")
    shown = console(no_wait=no_wait, jobs=jobs)
    if own is None:
        params = collect(name, ATTACKS[name], "Budget", set_, **options)
    else:
        params = settings.gather("attack", module_of(own).Budget.__dataclass_fields__, set_ or [], options, COMMANDS)
    from auditkit import show, stages

    if dry_run:
        return dry("attack", as_json, stages.plan_attack(name, **where, params=params))
    done = stages.attack(name, **where, params=params, seed=seed, console=shown)
    show.attack(done)
    finish(done, as_json, done.read_json("attack.json"))


@app.command()
def evaluate(
    judges: Judges = "ensemble,clip",
    model: Model = None,
    original: Original = None,
    images: Annotated[str | None, typer.Option("--images", metavar="DIR|FILE", help="Judge these images (PNG, npz, safetensors).")] = None,
    data: Data = "digits",
    classes: Classes = None,
    n: Annotated[int | None, typer.Option("-n", help="Images of the forgotten class (500).")] = None,
    retain_n: Annotated[int | None, typer.Option(help="Images of each retained class (50; 500 by the paper protocol).")] = None,
    protocol: Protocol = "clean",
    clip_model: ClipModel = None,
    judge_weights: JudgeWeights = None,
    inception: Inception = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
    fail_on: FailOn = None,
) -> int:
    """Judge the latest model and what the attacks made of it, and show what each judge says about noise."""
    names, protocol = parse_judges(judges), choose("protocol", protocol, PROTOCOLS)
    if images is not None and (model or original or inception or n or retain_n or dry_run):
        raise UserError("--images are judged as they are: leave out --model, --original, --inception, -n, --retain-n and --dry-run")
    forget = needed(classes) if images is not None else parse_classes(classes)
    shown = console(no_wait=no_wait, jobs=jobs)
    params = collect("evaluate", "auditkit.stages.choice", "Counts", set_, n=n, retain_n=retain_n)
    from auditkit import show, show_evaluation, stages
    from auditkit.stages.choice import counts_of

    choice: dict[str, Any] = {"protocol": protocol, "clip_model": clip_model, "judge_weights": judge_weights}
    if images is not None:
        done = stages.evaluate_images(images, forget or (), names, data_name=data, **choice, seed=seed, console=shown)
    else:
        counts = counts_of(params, protocol)
        arguments: dict[str, Any] = {"model": model, "original": original, "data_name": data, "classes": forget, **counts}
        if dry_run:
            dry("evaluate", as_json, stages.plan_evaluate(**arguments))
            return 0
        done = stages.evaluate(names, **arguments, **choice, inception=inception, seed=seed, console=shown)
    record = done.read_json("evaluation.json")
    show_evaluation.evaluation(done)
    finish(done, as_json, record)
    return show.gate(record, fail_on)


@app.command()
def audit(
    classes: Classes = None,
    model: Model = None,
    original: Original = None,
    data: Data = "digits",
    judges: Judges = "ensemble,clip",
    protocol: Protocol = "clean",
    clip_model: ClipModel = None,
    judge_weights: JudgeWeights = None,
    inception: Inception = None,
    method: Annotated[
        str | None,
        typer.Option("--method", help=f"{', '.join(METHODS)}; not with --model."),
    ] = None,
    seed: Seed = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="COMMAND.NAME=VALUE", help="A setting of one command: relearn.steps=50.")
    ] = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
    fail_on: FailOn = None,
) -> int:
    """The main job: unlearn (or take --model), attack it beside its controls, judge it, and show what the judges say about noise."""
    names, protocol = parse_judges(judges), choose("protocol", protocol, PROTOCOLS)
    if model is not None and (method or any(text.startswith("unlearn.") for text in set_ or [])):
        raise UserError("--model takes a model that is unlearned already: leave out --method and --set unlearn.*")
    method = choose("method", method or "safemax", METHODS)
    forget = parse_classes(classes) if model is not None else needed(classes)
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show, show_evaluation, stages

    params = by_command(method, set_ or [])
    arguments: dict[str, Any] = {"model": model, "original": original, "data_name": data, "method": method, "params": params}
    choice: dict[str, Any] = {"protocol": protocol, "clip_model": clip_model, "judge_weights": judge_weights, "inception": inception}
    if dry_run:
        dry("audit", as_json, stages.plan_audit(forget, **arguments))
        return 0
    done = stages.audit(forget, **arguments, judges=names, **choice, seed=seed, console=shown)
    record = done.read_json("summary.json")
    show_evaluation.audit(done)
    finish(done, as_json, record)
    return show.gate(record, fail_on)


app.command("import")(cli_models.import_)
app.command()(cli_models.export)
app.command()(cli_runs.report)
app.command()(cli_runs.verify)
app.command()(cli_judges.schema)
app.command()(cli_attacks.selftest)
app.command()(cli_attacks.scan)
app.command()(cli_compare.compare)
app.command()(cli_compare.ablate)
app.command()(cli_bench.bench)
