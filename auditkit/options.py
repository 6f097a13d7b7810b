"""The command line's shared parts: options, parsing, and what every command prints."""

import importlib
import json
import os
from typing import Annotated, Any

import typer

from auditkit import settings
from auditkit.errors import UserError, choose

Classes = Annotated[str | None, typer.Option("--class", "-c", metavar="F[,F]", help="The class to forget, or several: 2 or 2,5.")]
Model = Annotated[str | None, typer.Option("--model", metavar="RUN|DIR", help="The unlearned model: a run, a folder or hub:ORG/NAME.")]
Original = Annotated[
    str | None, typer.Option("--original", metavar="RUN|DIR", help="The model before unlearning (default: the bundled one).")
]
Data = Annotated[
    str,
    typer.Option(
        "--data", metavar="NAME", help="digits, cifar10, cifar100, stl10, mnist, fashion-mnist, folder:PATH or pack:FILE[,FILE] (.npz)."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Keys every random number.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for a run that another process is computing: exit 2.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes side by side (default: one per core).")]
Judges = Annotated[
    str, typer.Option("--judges", metavar="NAME[,NAME]", help="ensemble, clip, density, noise, fidelity, one member, or module:function.")
]
Protocol = Annotated[str, typer.Option("--protocol", help="clean, or paper: images stretched and counted as in SA and SalUn.")]
ClipModel = Annotated[str | None, typer.Option("--clip-model", metavar="MODEL", help="ViT-B-32:openai, local-dir:PATH or hf-hub:NAME.")]
JudgeWeights = Annotated[
    str | None, typer.Option("--judge-weights", metavar="DIR|FILE", help="Networks that join the ensemble (safetensors).")
]
Inception = Annotated[str | None, typer.Option("--inception", metavar="FILE", help="Inception v3 weights for FID (fidelity).")]
FailOn = Annotated[
    float | None,
    typer.Option(
        "--fail-on", min=0, max=1, metavar="RATE", help="Exit 3 if the class shows more than RATE above its control, 4 if undecided."
    ),
]

PROTOCOLS = ("clean", "paper")  # evaluators' protocol.PROTOCOLS, whose import would bring torch; a test compares them
COMMANDS = ("attack", "unlearn", "pretrain", "retrain", "sample", "relearn", "finetune", "evaluate", "audit")


def parse_classes(text: str | None) -> tuple[int, ...] | None:
    """ "2,5" to (2, 5). Raises UserError for anything that is no list of whole numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--class takes a class number like 2, or several like 2,5; got {text!r}") from None


def parse_judges(text: str) -> tuple[str, ...]:
    """ "ensemble,clip" to ("ensemble", "clip"). Raises UserError for a name that is neither judge nor measure nor plug-in."""
    from auditkit_evaluators import check

    return tuple(dict.fromkeys(check(name.strip()) for name in text.split(",")))


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
    terminal.show_log()
    from auditkit.stages.cell import Console

    return Console(say=terminal.say, track=terminal.track, wait=not no_wait, jobs=jobs or os.cpu_count() or 1)


def finish(done: Any, as_json: bool, record: dict[str, Any] | None = None) -> None:
    """Prints the run's path and digest, or with --json one object that also holds its record."""
    if as_json:
        print(json.dumps({"run": str(done.path), "digest": done.digest, **(record or {})}, allow_nan=False))
    else:
        print(done.path)
        print(f"digest {done.digest}")


def collect(command: str, module: str, settings_class: str, given: list[str] | None, **options: Any) -> dict[str, Any]:
    """The settings of a command, known names taken from the fields of `module.settings_class`."""
    fields = getattr(importlib.import_module(module), settings_class).__dataclass_fields__
    return settings.gather(command, fields, given or [], options, COMMANDS)


def by_command(method: str, assignments: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of every command that an audit runs, from all sources; --set names the command: relearn.steps=50."""
    from auditkit.unlearn import METHODS
    from auditkit_attacks import ATTACKS, AUDITED

    where = {"unlearn": (METHODS[method], "Params"), **{name: (ATTACKS[name], "Budget") for name in AUDITED}}
    where["evaluate"] = ("auditkit.stages.choice", "Counts")
    given: dict[str, list[str]] = {command: [] for command in where}
    for assignment in assignments:
        command, dot, rest = assignment.partition(".")
        if not dot:
            raise UserError(f"--set of audit takes COMMAND.NAME=VALUE, like relearn.steps=50; got {assignment!r}")
        given[choose("command", command, where)].append(rest)
    return {command: collect(command, *where[command], given[command]) for command in where}


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
