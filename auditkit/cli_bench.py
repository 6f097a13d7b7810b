"""`auditkit bench`: our code beside the alternatives, on the same work in the same run."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from auditkit.errors import UserError, choose
from auditkit.options import Json, console

WHAT = ("kernels", "step", "sampling", "judges", "audit")  # auditkit.bench.WHAT, whose import would bring torch


def bench(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"{', '.join(WHAT)}, or all.")],
    size: Annotated[str, typer.Option("--size", help="digits, or cifar10: the 38.6 M-parameter UNet of the papers.")] = "digits",
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Rounds; each takes every arm in turn.")] = 5,
    n: Annotated[int, typer.Option("-n", min=100, max=10**6, help="Rows of features (judges).")] = 10_000,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help="Write the JSON there.")] = None,
    as_json: Json = False,
) -> None:
    """Time our code beside plain PyTorch, torch.compile, diffusers and the peers' loops; what computes something else is not timed."""
    choose("benchmark", what, (*WHAT, "all"))
    choose("--size", size, ("digits", "cifar10"))
    if out is not None and (Path(out).is_dir() or not Path(out).absolute().parent.is_dir()):
        raise UserError(f"--out takes a file in a folder that exists, got {out}")
    shown = console()
    from auditkit import files, provenance, show_bench
    from auditkit.bench import audit, judges, kernels, sampling, step
    from auditkit.stages.cell import prepare

    prepare()
    todo: dict[str, Any] = {
        "kernels": lambda: kernels.run(repeats),
        "step": lambda: step.run(size, repeats),
        "sampling": lambda: sampling.run(size, repeats),
        "judges": lambda: judges.run(n, repeats),
        "audit": lambda: audit.run(repeats),
    }
    record: dict[str, Any] = {
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "processor": provenance.processor(),
        "versions": provenance.versions(),
        "results": [],
    }
    for name in WHAT if what == "all" else (what,):
        shown.say(f"{name}: {repeats} rounds")
        try:
            record["results"].append(todo[name]())
        except (RuntimeError, OSError, MemoryError) as error:  # one that cannot run here must not lose the others
            record["results"].append({"what": name, "wrong": f"not measured: {type(error).__name__}: {error}"})
        show_bench.result(record["results"][-1])
        if out is not None:
            files.write(Path(out), json.dumps(record, indent=1) + "\n")
    if as_json or out is None:
        print(json.dumps(record))
