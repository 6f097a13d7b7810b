"""`auditkit import` and `auditkit export`: models in and out."""

import json
from typing import Annotated

import typer

from auditkit.options import DryRun, Json, NoWait, console, finish, parse_classes


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint of SalUn or Selective Amnesia (.pth).")],
    weights: Annotated[str | None, typer.Option("--weights", help="raw or ema (default: as its authors sampled it).")] = None,
    size: Annotated[int | None, typer.Option("--size", min=1, max=4096, help="Side of the images (default: inferred).")] = None,
    classes: Annotated[str | None, typer.Option("--class", "-c", metavar="F[,F]", help="What was forgotten, if that is known.")] = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Import a checkpoint of SalUn or Selective Amnesia: the next commands audit it. Nothing in the file is run."""
    shown = console(no_wait=no_wait)
    from auditkit import stages

    found = stages.look(file, weights=weights, size=size, classes=parse_classes(classes) or ())
    about = found.about
    at = "" if about["step"] is None else f", step {about['step']}"
    shown.say(f"{file}: {about['form']}{at}; {about['weights']} weights, {about['why']}")
    shown.say(
        f"{about['parameters']:,} parameters, channels {about['channels']}, {about['classes']} classes, "
        f"images {' x '.join(map(str, about['images']))} ({about['size']})"
    )
    for other in about["holds"]:
        if about["step"] is not None and other != about["weights"]:  # an average lags: after 1000 steps it is 90 % what it was
            shown.say(f"it holds {other} weights too, which this run says nothing about: import them with --weights {other}")
    if dry_run:
        shown.say(f"import would write {found.request.name}, {4 * about['parameters'] / 1e6:.0f} MB; nothing was written")
        if as_json:
            print(json.dumps({"run": found.request.name, **about}))
        return
    finish(stages.bring(found, shown), as_json, about)


def export(
    model: Annotated[str, typer.Argument(metavar="RUN|DIR", help="A run that holds a model, or a model folder.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR|FILE", help="What to write; it must not exist.")],
    form: Annotated[str, typer.Option("--to", help="diffusers (a folder), or peer (a .pth as SalUn writes it).")] = "diffusers",
    as_json: Json = False,
) -> None:
    """Export a model: a folder that diffusers reads, or a checkpoint that the code of SalUn reads."""
    shown = console()
    from auditkit import stages

    done = stages.export(model, out, form=form)
    folded = ", its class layers folded into the table" if done["folded"] and form == "diffusers" else ""
    shown.say(f"{done['model']} as {form}{folded}")
    if as_json:
        print(json.dumps(done))
        return
    print(done["path"])
    print(f"digest {done['digest']}")
