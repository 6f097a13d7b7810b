"""`auditkit judges list|card|train` and `auditkit schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from auditkit.errors import choose
from auditkit.options import ClipModel, Data, Json, JudgeWeights, NoWait, Seed, console, finish, parse_judges
from auditkit.results import rounded

judges = typer.Typer(help="List the judges, and show what each was itself measured to do.", no_args_is_help=True)

ABOUT = {
    "ensemble": "closed-set judges of several families that can answer no class; --judge-weights adds networks (judges train)",
    "clip": "zero-shot CLIP with prompt ensembles; --clip-model names any open_clip model",
    "density": "precision, recall, density, coverage, C2ST and MMD, beside real v real and noise (no vote)",
    "noise": "are the pixels independent, or does an image hold structure? (always measured; naming it prints it)",
    "fidelity": "FID, KID, precision and recall, IS of the retained classes (no vote)",
}
# stages.train_judge's NETWORKS, whose import would bring torch; a test compares them.
NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet34")
SCHEMAS = {"evaluation": ("auditkit_evaluators.evaluation", "Evaluation"), "card": ("auditkit_evaluators.cards", "Card")}


@judges.command("list")
def judges_list(as_json: Json = False) -> None:
    """Every name that --judges takes."""
    from auditkit_evaluators import MEMBERS

    names = {**ABOUT, **dict.fromkeys(MEMBERS, "a member of the ensemble alone"), "module:function": "a judge of your own (docs/judges.md)"}
    if as_json:
        print(json.dumps(names))
        return
    for name, about in names.items():
        print(f"{name:16} {about}")


@judges.command("card")
def judges_card(
    name: Annotated[str, typer.Argument(metavar="JUDGE", help="A judge: svc, clip, ensemble, module:function.")],
    data: Data = "digits",
    clip_model: ClipModel = None,
    judge_weights: JudgeWeights = None,
    seed: Seed = 0,
    as_json: Json = False,
    no_wait: NoWait = False,
) -> None:
    """What a judge does on real images, on noise, and on the ladder between them; measured once and kept."""
    names = parse_judges(name)
    shown = console(no_wait=no_wait)
    from auditkit import show_card, stages

    done = stages.cards(names, data_name=data, clip_model=clip_model, judge_weights=judge_weights, seed=seed, console=shown)
    for run in done:
        show_card.card(run.read_json("card.json"))
        if not as_json:
            finish(run, as_json)
    if as_json:
        print(json.dumps([{"run": str(run.path), "digest": run.digest, **run.read_json("card.json")} for run in done]))


@judges.command("train")
def judges_train(
    name: Annotated[str, typer.Argument(metavar="NETWORK", help="resnet20, resnet32, resnet44, resnet56, or resnet34.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .safetensors file to make; one that exists is refused.")],
    data: Data = "digits",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps (2800; resnet34: 10 epochs).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the judges split, in place of --steps.")] = None,
    start: Annotated[Path | None, typer.Option(metavar="FILE", help="resnet34's ImageNet weights (default: download them).")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Mirror half of the images (default: colour yes, grey no).")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a network on the judges split, for --judge-weights: a CIFAR ResNet, or resnet34, the publications' judge.

    An interrupted training writes nothing, and starts over.
    """
    choose("network", name, NETWORKS)
    shown = console()
    from auditkit import stages

    try:
        hit = stages.train_judge(name, out, data_name=data, steps=steps, epochs=epochs, start=start, flip=flip, seed=seed, console=shown)
    except KeyboardInterrupt:
        shown.say(f"interrupted: {f'{out} is written but not measured' if out.exists() else 'nothing was written, it starts over'}")
        raise typer.Abort from None
    shown.say(f"{name}: {hit.name} {hit.text()}, n = {hit.n}")
    print(json.dumps({"file": str(out), "hit": rounded(hit.model_dump())}) if as_json else out)


def schema(name: Annotated[str, typer.Argument(help="evaluation or card.")]) -> None:
    """Print the JSON schema of a result."""
    from importlib import import_module

    module, kind = SCHEMAS[choose("schema", name, SCHEMAS)]
    print(json.dumps(getattr(import_module(module), kind).model_json_schema(), indent=1))
