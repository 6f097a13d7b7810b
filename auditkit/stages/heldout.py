"""Recovery or memorising? What a training attack's images cover of the attacker's own pictures, and of ones nobody saw."""

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from auditkit import data, files, rundir
from auditkit.results import Measure
from auditkit.stages.attack import GIVEN
from auditkit.stages.sample import IMAGES, images
from auditkit_evaluators import stats
from auditkit_evaluators.neighbours import nearest

K = 3  # a ball reaches to the third neighbour; coverage as in Naeem et al. (https://arxiv.org/abs/2002.09797)


def given_of(run: rundir.Run) -> Tensor:
    """The images that the attacker trained on."""
    given: Tensor = load_file(files.check_safetensors(run.file(GIVEN)))["given"]
    return given


def unseen(dataset: data.Dataset, classes: tuple[int, ...]) -> Tensor:
    """Images of the class in question that no model and no attacker has seen."""
    parts = [dataset.part(split, torch.tensor(classes[:1]))[0] for split in data.SPLITS if split != "model"]
    return torch.cat(parts)


def copied(made: Tensor, given: Tensor, fresh: Tensor) -> Measure:
    """The share of `made` images whose nearest image is one of `given` rather than one of as many `fresh`: 50 % by chance."""
    m = min(len(given), len(fresh))
    first, second = (torch.cdist(made.flatten(1).float(), x[:m].flatten(1).float()).amin(1) for x in (given, fresh))
    return stats.rate("nearer to the attacker's images", int((first < second).sum()), len(made))


def coverage(made: Tensor, real: Tensor, name: str) -> Measure:
    """The share of `real` images whose ball, reaching to their third neighbour among themselves, holds one of `made`; by pixels, uint8.

    The balls lie around real images: around made ones, a few images of noise would cover everything (40 among 160 copies: 77 %).
    """
    x, y = (t.flatten(1).double().numpy() for t in (made, real))
    radii = nearest(y, y, K, exclude_self=True)[0][:, -1]
    return stats.rate(name, int((nearest(y, x, 1)[0][:, 0] <= radii).sum()), len(y), safer="lower")


def coverages(cells: dict[str, rundir.Run], at: str, dataset: data.Dataset, classes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """By role, at one point: what its images cover of heldout images, and of those that the attacker had. Empty where the attacker had
    none."""
    found = {}
    for role, run in cells.items():
        made = images(run) if {GIVEN, IMAGES} <= set(run.result.files) else {}
        if at in made:
            references = {"heldout": unseen(dataset, classes), "given": given_of(run)}
            found[role] = {name: coverage(made[at], real, f"{role}: coverage of {name}").model_dump() for name, real in references.items()}
    return found
