"""The command line: parse, call one stage, print the run. Nothing heavy is imported before a command runs."""

import json
import os
import sys
from typing import Annotated, Any

import typer

from auditkit import settings
from auditkit.errors import RunError, UserError, choose

app = typer.Typer(
    name="auditkit",
    help="Proves whether a generative model has really forgotten: unlearns, attacks, judges, and judges its judges.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs = typer.Typer(help="List, show and delete runs.", no_args_is_help=True)
app.add_typer(runs, name="runs")

Classes = Annotated[str | None, typer.Option("--class", "-c", metavar="F[,F]", help="The class to forget, or several: 2 or 2,5.")]
Model = Annotated[str | None, typer.Option("--model", metavar="RUN|DIR", help="The unlearned model: a run or a model folder.")]
Original = Annotated[str | None, typer.Option("--original", metavar="RUN|DIR", help="The model before unlearning (default: the bundled one).")]
Data = Annotated[str, typer.Option("--data", metavar="NAME", help="The data set.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Keys every random number.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for a run that another process is computing: exit 2.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes side by side (default: one per core).")]
FailOn = Annotated[
    float | None,
    typer.Option("--fail-on", min=0, max=1, metavar="RATE", help="Exit 3 if the class shows more than RATE above its control, 4 if undecided."),
]

COMMANDS = ("unlearn", "pretrain", "retrain", "sample", "relearn", "finetune", "evaluate", "audit")


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code (design: 0, 1, 2, 3, 4, 130)."""
    from auditkit import terminal

    debug = bool(os.environ.get("AUDITKIT_DEBUG"))
    try:
        code = app(args=arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UserError as error:
        terminal.err.print(f"[bold red]error:[/] {terminal.escape(str(error))}", soft_wrap=True)
        code = 2
    except (RunError, FloatingPointError, OSError) as error:
        terminal.err.print(f"[bold red]failed:[/] {terminal.escape(str(error))}", soft_wrap=True)
        code = 1
    except KeyboardInterrupt:
        terminal.say("interrupted; run the same command again and it goes on where it stopped")
        return 130
    except typer.TyperException as error:
        error.show()
        return int(error.exit_code)
    except typer.Abort:
        return 130
    if debug:
        raise
    return code


def parse_classes(text: str | None) -> tuple[int, ...] | None:
    """"2,5" to (2, 5). Raises UserError for anything that is no list of whole numbers."""
    if text is None:
        return None
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"--class takes a class number like 2, or several like 2,5; got {text!r}") from None


def needed(classes: str | None) -> tuple[int, ...]:
    parsed = parse_classes(classes)
    if parsed is None:
        raise UserError("--class is needed: the class to forget, for example --class 2")
    return parsed


def console(*, no_wait: bool = False, jobs: int | None = None) -> Any:
    """The console that prints; says something at once, since importing torch takes seconds."""
    from auditkit import terminal

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    terminal.err.print("[dim]loading torch ...[/]")
    from auditkit.stages.cell import Console

    return Console(say=terminal.say, track=terminal.track, wait=not no_wait, jobs=jobs or os.cpu_count() or 1)


def finish(done: Any, as_json: bool, record: dict[str, Any] | None = None) -> None:
    """Prints the run's path and digest, or with --json one object that also holds its record."""
    if as_json:
        print(json.dumps({"run": str(done.path), "digest": done.digest, **(record or {})}, allow_nan=False))
    else:
        print(done.path)
        print(f"digest {done.digest}")


def collect(command: str, module: str, kind: str, given: list[str] | None, **options: Any) -> dict[str, Any]:
    """The settings of a command, known names taken from the fields of `module.kind`."""
    import importlib

    fields = getattr(importlib.import_module(module), kind).__dataclass_fields__
    return settings.gather(command, fields, given or [], options, COMMANDS)


def by_command(method: str, assignments: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of every command that an audit runs, from all sources; --set names the command: relearn.steps=50."""
    from auditkit_attacks import ATTACKS

    from auditkit.unlearn import METHODS

    where = {"unlearn": (METHODS[method], "Params"), **{name: (path, "Budget") for name, path in ATTACKS.items()}}
    where["evaluate"] = ("auditkit.stages.evaluate", "Counts")
    given: dict[str, list[str]] = {command: [] for command in where}
    for assignment in assignments:
        command, dot, rest = assignment.partition(".")
        if not dot:
            raise UserError(f"--set of audit takes COMMAND.NAME=VALUE, like relearn.steps=50; got {assignment!r}")
        given[choose("command", command, where)].append(rest)
    return {command: collect(command, *where[command], given[command]) for command in where}


@app.command()
def unlearn(
    classes: Classes = None,
    method: Annotated[str, typer.Option("--method", help="safemax, gate or retrain.")] = "safemax",
    original: Original = None,
    data: Data = "digits",
    steps: Annotated[int | None, typer.Option(help="Training steps.", rich_help_panel="SAFEMax")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's learning rate.", rich_help_panel="SAFEMax")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of each kind in a step.", rich_help_panel="SAFEMax")] = None,
    lam: Annotated[float | None, typer.Option(help="lambda of psi(t) = exp(-lambda t / T).", rich_help_panel="SAFEMax")] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the retain loss.", rich_help_panel="SAFEMax")] = None,
    target: Annotated[str | None, typer.Option(help="terminal, mean or latent.", rich_help_panel="SAFEMax")] = None,
    psi_normalise: Annotated[bool | None, typer.Option("--psi-normalise", help="Divide psi by its mean.", rich_help_panel="SAFEMax")] = None,
    retain_class_dropout: Annotated[float | None, typer.Option(help="Label dropout on retain rows.", rich_help_panel="SAFEMax")] = None,
    forget_class_dropout: Annotated[float | None, typer.Option(help="Label dropout on forget rows.", rich_help_panel="SAFEMax")] = None,
    forget_data: Annotated[str | None, typer.Option(help="real, generated or noise.", rich_help_panel="SAFEMax")] = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Unlearn a class: SAFEMax, the gate strawman, or retraining without it."""
    from auditkit.unlearn import METHODS

    forget = needed(classes)
    choose("method", method, METHODS)
    shown = console(no_wait=no_wait)
    options = {
        "steps": steps,
        "lr": lr,
        "batch": batch,
        "lam": lam,
        "alpha": alpha,
        "target": target,
        "psi_normalise": psi_normalise,
        "retain_class_dropout": retain_class_dropout,
        "forget_class_dropout": forget_class_dropout,
        "forget_data": forget_data,
    }
    params = collect("unlearn", METHODS[method], "Params", set_, **options)
    from auditkit import stages

    if dry_run:
        return dry("unlearn", as_json, stages.plan_unlearn(method, forget, data_name=data, original=original, params=params))
    done = stages.unlearn(method, forget, data_name=data, original=original, params=params, seed=seed, console=shown)
    shown.say(f"{method} on class {','.join(map(str, forget))}: {done.result.details.get('steps')} steps, {done.result.seconds:.1f} s, EMA off")
    finish(done, as_json, {"details": done.result.details})


@app.command()
def pretrain(data: Data = "digits", seed: Seed = 0, set_: Set = None, as_json: Json = False, no_wait: NoWait = False) -> None:
    """Train a base denoiser from scratch (the bundled digits model was made so)."""
    shown = console(no_wait=no_wait)
    params = collect("pretrain", "auditkit.unlearn.retrain", "Params", set_)
    from auditkit import stages

    finish(stages.pretrain(data, params=params, seed=seed, console=shown), as_json)


@app.command()
def retrain(
    classes: Classes = None,
    original: Original = None,
    data: Data = "digits",
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    no_wait: NoWait = False,
) -> None:
    """Train from scratch without a class: the floor that every relearning attack needs."""
    forget = needed(classes)
    shown = console(no_wait=no_wait)
    params = collect("retrain", "auditkit.unlearn.retrain", "Params", set_)
    from auditkit import stages

    finish(stages.retrain(forget, data_name=data, original=original, params=params, seed=seed, console=shown), as_json)


@app.command()
def sample(
    classes: Classes = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Images of each class.")] = 64,
    model: Model = None,
    data: Data = "digits",
    sampler: Annotated[str, typer.Option(help="ddim or ddpm.")] = "ddim",
    steps: Annotated[int, typer.Option(help="Sampler steps.")] = 25,
    eta: Annotated[float, typer.Option(help="DDIM's eta.")] = 0.0,
    guidance: Annotated[float, typer.Option(help="w in (1+w) eps_c - w eps_null.")] = 1.0,
    seed: Seed = 0,
    as_json: Json = False,
    no_wait: NoWait = False,
) -> None:
    """Sample a model: a PNG grid and the images as one file."""
    chosen = needed(classes)
    shown = console(no_wait=no_wait)
    from auditkit import sampling, stages
    from auditkit.stages import source

    who = source.chosen(model, data)
    how = sampling.Sampler(kind=sampler, steps=steps, eta=eta, guidance=guidance)
    done = stages.sample(who, dict.fromkeys(chosen, n), data_name=data, sampler=how, seed=seed, console=shown)
    shown.say(f"{n} images of each of {len(chosen)} classes from {who.name}: {done.path / 'grid.png'}")
    finish(done, as_json)


@app.command()
def attack(
    name: Annotated[str, typer.Argument(metavar="ATTACK", help="relearn or finetune.")],
    steps: Annotated[int | None, typer.Option(help="Fine-tuning steps.")] = None,
    images: Annotated[int | None, typer.Option(help="Images of the class that the attacker has (relearn).")] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates, separated by commas.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Images judged at each point of the curve.")] = None,
    model: Model = None,
    original: Original = None,
    data: Data = "digits",
    classes: Classes = None,
    seed: Seed = 0,
    set_: Set = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
) -> None:
    """Attack a model and its controls: the curve means something only beside its floors."""
    from auditkit_attacks import ATTACKS

    choose("attack", name, ATTACKS)
    forget = parse_classes(classes)
    shown = console(no_wait=no_wait, jobs=jobs)
    params = collect(name, ATTACKS[name], "Budget", set_, steps=steps, images=images, lrs=lr, n=n)
    from auditkit import show, stages

    arguments: dict[str, Any] = {"model": model, "original": original, "data_name": data, "classes": forget, "params": params}
    if dry_run:
        return dry("attack", as_json, stages.plan_attack(name, **arguments))
    done = stages.attack(name, **arguments, seed=seed, console=shown)
    show.attack(done)
    finish(done, as_json, done.json("attack.json"))


@app.command()
def evaluate(
    judges: Annotated[str, typer.Option("--judges", help="Judges, separated by commas.")] = "ensemble,clip",
    model: Model = None,
    original: Original = None,
    data: Data = "digits",
    classes: Classes = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Images of the forgotten class.")] = 500,
    retain_n: Annotated[int, typer.Option(min=1, help="Images of each retained class.")] = 50,
    clip_model: Annotated[str | None, typer.Option(metavar="MODEL", help="ViT-B-32:openai, local-dir:PATH or hf-hub:NAME.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
    fail_on: FailOn = None,
) -> int:
    """Judge the latest model and what the attacks made of it, and show what each judge says about noise."""
    from auditkit_evaluators import JUDGES

    names = tuple(choose("judge", name.strip(), JUDGES) for name in judges.split(","))
    forget = parse_classes(classes)
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show, stages

    arguments: dict[str, Any] = {"model": model, "original": original, "data_name": data, "classes": forget, "n": n, "retain_n": retain_n}
    if dry_run:
        dry("evaluate", as_json, stages.plan_evaluate(**arguments))
        return 0
    done = stages.evaluate(names, **arguments, clip_model=clip_model, seed=seed, console=shown)
    record = done.json("evaluation.json")
    show.evaluation(done)
    finish(done, as_json, record)
    return show.gate(record["gate"], fail_on)


@app.command()
def audit(
    classes: Classes = None,
    model: Model = None,
    original: Original = None,
    data: Data = "digits",
    judges: Annotated[str, typer.Option("--judges", help="Judges, separated by commas.")] = "ensemble,clip",
    clip_model: Annotated[str | None, typer.Option(metavar="MODEL", help="ViT-B-32:openai, local-dir:PATH or hf-hub:NAME.")] = None,
    method: Annotated[str, typer.Option("--method", help="Used when no --model is given.")] = "safemax",
    seed: Seed = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="COMMAND.NAME=VALUE", help="A setting of one command: relearn.steps=50.")] = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    jobs: Jobs = None,
    fail_on: FailOn = None,
) -> int:
    """The main job: unlearn (or take --model), attack it beside its controls, judge it, and show what the judges say about noise."""
    from auditkit_evaluators import JUDGES

    from auditkit.unlearn import METHODS

    names = tuple(choose("judge", name.strip(), JUDGES) for name in judges.split(","))
    choose("method", method, METHODS)
    forget = parse_classes(classes) if model else needed(classes)
    shown = console(no_wait=no_wait, jobs=jobs)
    from auditkit import show, stages

    params = by_command(method, set_ or [])
    arguments: dict[str, Any] = {"model": model, "original": original, "data_name": data, "method": method, "params": params}
    if dry_run:
        dry("audit", as_json, stages.plan_audit(forget, **arguments))
        return 0
    done = stages.audit(forget, **arguments, judges=names, clip_model=clip_model, seed=seed, console=shown)
    record = done.json("summary.json")
    show.audit(done)
    finish(done, as_json, record)
    return show.gate(record["gate"], fail_on)


@app.command()
def verify(
    run_name: Annotated[str, typer.Argument(metavar="RUN")],
    digest: Annotated[str | None, typer.Option(help="The digest that you were given.")] = None,
) -> int:
    """Hash every file of a run again, and compare its digest with the one that you were given."""
    from auditkit import rundir, terminal

    found = rundir.find(run_name)
    if digest is not None and digest != found.digest:
        terminal.err.print(f"[bold red]failed:[/] {found.name} has digest {found.digest}, not {terminal.escape(digest)}", soft_wrap=True)
        return 1
    print(f"{found.path}  {found.digest}  {len(found.result.files)} files unchanged")
    return 0


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """Every run with its size; runs hold forgotten content."""
    from auditkit import rundir, terminal

    rows = []
    for path in rundir.listing():
        done = (path / rundir.RESULT).exists()
        rows.append({"run": path.name, "done": done, "bytes": rundir.size_of(path)})
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['run']}  {'done' if row['done'] else 'unfinished'}  {terminal.bytes_text(float(row['bytes']))}")


@runs.command("show")
def runs_show(run_name: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """The request and result of a run, as JSON."""
    from auditkit import rundir

    found = rundir.find(run_name)
    print(json.dumps({"request": found.request.model_dump(), "result": found.result.model_dump()}, indent=1))


@runs.command("rm")
def runs_rm(names: Annotated[list[str], typer.Argument(metavar="RUN...")]) -> None:
    """Delete runs, finished or not."""
    from auditkit import rundir, terminal

    for name in names:
        terminal.say(f"deleted {name}, {terminal.bytes_text(rundir.remove(name))}")


def dry(command: str, as_json: bool, estimate: Any) -> None:
    """Prints an estimate and leaves: nothing was computed or written."""
    from auditkit import terminal

    if as_json:
        print(estimate.model_dump_json())
        return
    terminal.say(
        f"{command} would take about {estimate.seconds:.0f} s of one core here and {terminal.bytes_text(estimate.disk_bytes)} of disk; "
        f"0 of {estimate.n} images would exclude rates above {100 * estimate.excludes:.2f} %"
    )


if __name__ == "__main__":
    sys.exit(run())
