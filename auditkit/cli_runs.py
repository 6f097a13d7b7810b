"""`auditkit runs list|show|rm`, `auditkit verify` and `auditkit report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from auditkit.options import Json, console, finish

runs = typer.Typer(help="List, show and delete runs.", no_args_is_help=True)


def verify(
    run_name: Annotated[str, typer.Argument(metavar="RUN")],
    digest: Annotated[str | None, typer.Option(help="The digest that you were given.")] = None,
    as_json: Json = False,
) -> int:
    """Hash every file of a run again, and compare its digest with the one that you were given."""
    from auditkit import rundir, terminal

    found = rundir.find(run_name)
    if digest is not None and digest != found.digest:
        terminal.fail("failed", f"{found.name} has digest {found.digest}, not {digest}")
        return 1
    if as_json:
        print(json.dumps({"run": str(found.path), "digest": found.digest, "files": len(found.result.files)}))
    else:
        print(f"{found.path}  {found.digest}  {len(found.result.files)} files unchanged")
    return 0


def report(
    run_name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="An audit, evaluation or suite (the latest).")] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Leave every image out.")] = False,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help="Write the page there too.")] = None,
    as_json: Json = False,
) -> None:
    """One HTML page to read, send and sign: verdict and scope, attacks beside controls, images, curves, judges, digests."""
    from auditkit.errors import UserError

    if out is not None and (Path(out).is_dir() or not Path(out).absolute().parent.is_dir()):
        raise UserError(f"--out takes a file in a folder that exists, got {out}")
    shown = console()
    from auditkit import files, stages, terminal

    done = stages.report(run_name, redact=redact, console=shown)
    page = done.file("report.html")
    if out is not None:
        files.write(Path(out), page.read_bytes())
    terminal.say(f"open in a browser: {out or page} ({terminal.bytes_text(page.stat().st_size)}, no network, no script)")
    finish(done, as_json, {"page": str(out or page)})


@runs.command("list")
def runs_list(as_json: Json = False) -> None:
    """Every run with its size; runs hold forgotten content."""
    from auditkit import rundir, terminal

    rows = [(path.name, (path / rundir.RESULT).exists(), rundir.size_of(path)) for path in rundir.listing()]
    if as_json:
        print(json.dumps([{"run": name, "done": done, "bytes": size} for name, done, size in rows]))
        return
    for name, done, size in rows:
        print(f"{name}  {'done' if done else 'unfinished'}  {terminal.bytes_text(size)}")


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
