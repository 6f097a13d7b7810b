"""Erased Stable Diffusion (https://arxiv.org/abs/2303.07345, equations 6 and 7), for a class label instead of a prompt.

L = mean (eps_theta(x_t, c_f) - [eps*_null - eta (eps*_f - eps*_null)])^2 + alpha L_r,   eps* the original's, frozen
L_r = mean (eps - eps_theta(x_t, c))^2, c != f

The forgotten label learns to point away from the class. Published without L_r, which suits a model of open prompts whose other
layers stay frozen: alpha=0 is that. Its x_t come from the student's own half-finished samples; here from noised images of the class,
real, or made by the original (`forget_data=generated`, for which no image is needed).
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, sampling, training
from auditkit.errors import choose
from auditkit.unlearn import imitation, rows
from auditkit.unlearn.preparing import Preparation

FORGET_DATA = ("real", "generated")
GENERATED = 256  # images of the forgotten classes drawn from the original for forget_data=generated


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step; `eta` as in the paper, 1."""

    steps: int = 200
    lr: float = 1e-3
    schedule: str = "cosine"
    batch: int = 64
    eta: float = 1.0
    alpha: float = 1.0
    retain_class_dropout: float = 0.1
    forget_data: str = "real"

    def __post_init__(self) -> None:
        choose("forget data", self.forget_data, FORGET_DATA)
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
    """The original whose forgotten labels point away from their class; raw weights. Raises FloatingPointError when training diverges."""
    model, teacher, preparation = original.copy(), original.copy().net, Preparation(state, save)
    mine, my_labels = dataset.part("model", torch.tensor(forget))
    if params.forget_data == "generated":
        my_labels = torch.tensor(forget).repeat(-(-GENERATED // len(forget)))[:GENERATED]
        mine = preparation.drawn("generated", original, my_labels, seed=seed)
    images, labels = dataset.part("model", dataset.others(forget))

    def away(net: torch.nn.Module, x_t: torch.Tensor, t: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        null = torch.full_like(asked, model.null)
        said, free = teacher(torch.cat([x_t, x_t]), torch.cat([t, t]), class_labels=torch.cat([asked, null])).sample.chunk(2)
        wanted: torch.Tensor = free - params.eta * (said - free)
        return wanted

    batches = rows.mixed(
        (model.encode(mine), my_labels),
        (model.encode(images), labels),
        batch=params.batch,
        null=model.null,
        weights=(1, params.alpha),
        marked=True,
        dropout=(0, params.retain_class_dropout),
        seed=seed,
        device=model.net.device,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(
        model.net, batches, recipe, state=preparation.state, save=preparation.save, report=report, descend=imitation.imitating(away)
    )
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """The distance to the network's own null branch: what is left of the loss for an attacker who lacks the original."""
    return training.ForgetLoss(descend=imitation.imitating(imitation.under(torch.full((null + 1,), null))))


def costs(params: Params, forget_images: int, classes: int) -> dict[str, int]:
    """Network evaluations of one image by phase: forward 1, backward 2; the teacher answers twice for each forget row."""
    drawn = GENERATED * sampling.Sampler().passes if params.forget_data == "generated" else 0
    return {"generated images": drawn, "training": params.steps * params.batch * 8}
