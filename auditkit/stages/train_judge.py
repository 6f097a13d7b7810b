"""The stage that trains a network to judge with: one safetensors file, which `--judge-weights` takes.

No run: the file stands for itself (its hash is part of every result that it speaks in), and training starts over if it is interrupted.
"""

import json
from pathlib import Path

from safetensors.torch import save as to_bytes
from torch import nn

from auditkit import data, files
from auditkit.errors import UserError, choose
from auditkit.results import Measure
from auditkit.stages.cell import SILENT, Console
from auditkit_evaluators import networks, stats
from auditkit_evaluators import train_judge as recipe

PAPER = "resnet34"
NETWORKS = (*(f"resnet{n}" for n in recipe.LAYERS), PAPER)
PART = 250  # images judged between two reports


def train_judge(
    name: str,
    out: Path,
    *,
    data_name: str = "digits",
    steps: int | None = None,
    epochs: int | None = None,
    start: Path | None = None,
    flip: bool | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> Measure:
    """Trains `name` of NETWORKS on the `judges` split into the new file `out`; returns its hit rate on held-out images.

    resnet34 is the publications' judge and begins with ImageNet weights: those of the file `start`, or downloaded. The default of `flip` is
    yes for colour and no for grey images. `epochs` are `steps` counted in passes over the split.

    Raises:
        UserError: anything of it cannot be done; before a step is taken, and with nothing written.
        FloatingPointError: training diverged; nothing is written.
    """
    choose("network", name, NETWORKS)
    if steps is not None and epochs is not None:
        raise UserError(f"--steps {steps} and --epochs {epochs} say the same thing twice: give one of them")
    if start is not None and name != PAPER:
        raise UserError(f"--start is where {PAPER} begins, {name} is trained from scratch: leave it out")
    _check_new(out)
    dataset = data.load(data_name)
    flip = dataset.shape[0] == 3 if flip is None else flip
    images = len(dataset.part("judges")[1])
    if epochs is not None:
        steps = round(epochs * images / recipe.batch_of(images)) if images else 0
    network, steps = _train(name, dataset, steps, start, flip, seed, console)
    tensors = {key: t.detach().cpu().contiguous() for key, t in network.state_dict().items()}
    made = {"network": name, "data": dataset.sha256, "images": images, "steps": steps, "flip": flip, "seed": seed}
    made["start"] = files.sha256_of([start]) if start else None
    # One key: safetensors writes several in any order, and equal networks are to be equal files.
    files.write(out, to_bytes(tensors, metadata={"auditkit": json.dumps(made, sort_keys=True)}))
    return _measure(out, dataset, console)


def _check_new(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UserError(f"--out takes a file that ends in .safetensors, got {out}")
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists and is not overwritten: give another --out or delete it")
    if not out.parent.is_dir():
        raise UserError(f"--out: there is no folder {out.parent}; make it first")


def _train(
    name: str, dataset: data.Dataset, steps: int | None, start: Path | None, flip: bool, seed: int, console: Console
) -> tuple[nn.Module, int]:
    """The trained network and the steps it took."""
    if name != PAPER:
        steps = recipe.STEPS if steps is None else steps
        with console.track(f"train {name}", steps) as advance:
            layers = int(name.removeprefix("resnet"))
            return recipe.train(dataset, layers, steps=steps, flip=flip, seed=seed, report=advance), steps
    from auditkit_evaluators import paper_judge  # imports torchvision: a second that other commands need not pay

    steps = paper_judge.steps_of(dataset) if steps is None else steps
    recipe.check(dataset, steps)
    network = paper_judge.start(start, len(dataset.classes), seed)
    with console.track(f"train {name}", steps) as advance:
        return paper_judge.train(dataset, network, steps=steps, flip=flip, seed=seed, report=advance), steps


def _measure(out: Path, dataset: data.Dataset, console: Console) -> Measure:
    """The share of real held-out images whose class the network in the file says."""
    scores, (images, labels) = networks.load(out, dataset), dataset.part("heldout")
    right = 0
    with console.track("held-out images", len(images)) as advance:
        for first in range(0, len(images), PART):
            said = scores(images[first : first + PART])[0].argmax(axis=1)
            right += int((said == labels[first : first + PART].numpy()).sum())
            advance(min(first + PART, len(images)))
    return stats.rate("hit rate on real held-out images", right, len(images), safer="higher")
