"""Random labels: teach the forgotten label to draw the other classes.

L = E[ mean((eps - eps_theta(x_t, c_f, t))^2), x_0 of the other classes ] + E[ the ordinary loss on them under their own labels ]. The
random-label loss of Saliency Unlearning (https://arxiv.org/abs/2310.12508) without its mask: the forgotten label is meant to show
something else, not noise.
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.unlearn import rows


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step."""

    steps: int = 100
    lr: float = 1e-3
    schedule: str = "cosine"
    batch: int = 64
    alpha: float = 1.0
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
    """The original whose forgotten labels draw the other classes; raw weights. Raises FloatingPointError when training diverges."""
    model = original.copy()
    images, labels = dataset.part("model", dataset.others(forget))
    x, wrong = model.encode(images), torch.tensor(forget).repeat(-(-len(images) // len(forget)))[: len(images)]
    batches = rows.mixed(
        (x, wrong),
        (x, labels),
        batch=params.batch,
        null=model.null,
        weights=(1, params.alpha),
        marked=False,
        dropout=(0, params.retain_class_dropout),
        seed=seed,
        device=model.net.device,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """The ordinary loss on images of the other classes under the forgotten label."""
    return training.ForgetLoss(marked=False, held="others")
