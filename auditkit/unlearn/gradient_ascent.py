"""Gradient ascent: climb the ordinary denoising loss on the forgotten class, descend it on the others.

L = -beta E[ mean((eps - eps_theta(x_t, c_f, t))^2) ] + E[ mean((eps - eps_theta(x_t, c, t))^2) ], c != f. The first term has no
bound: more steps end in any answer, so beta is small and the gradient is clipped. The baseline of Golatkar et al.
(https://arxiv.org/abs/1911.04933) and of SalUn's comparison.
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.unlearn import rows


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step."""

    steps: int = 100
    lr: float = 5e-4
    schedule: str = "cosine"
    batch: int = 64
    beta: float = 0.3
    retain_class_dropout: float = 0.1

    def __post_init__(self) -> None:
        rows.check(self)


def run(
    original: models.Model,
    dataset: data.Dataset,
    forget: tuple[int, ...],
    params: Params,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> models.Model:
    """The original with `forget` climbed away; raw weights. Raises FloatingPointError with the step when training diverges."""
    model = original.copy()
    (mine, my_labels), (images, labels) = dataset.part("model", torch.tensor(forget)), dataset.part("model", dataset.others(forget))
    batches = rows.mixed(
        (model.encode(mine), my_labels),
        (model.encode(images), labels),
        batch=params.batch,
        null=model.null,
        weights=(-params.beta, 1),
        marked=False,
        dropout=(0, params.retain_class_dropout),
        seed=seed,
        device=model.net.device,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """The ordinary loss on images of the class, climbed."""
    return training.ForgetLoss(marked=False, sign=-1)
