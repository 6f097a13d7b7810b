"""Gradient ascent: climb the ordinary denoising loss on the forgotten class, descend it on the others.

L = -beta E[ mean((eps - eps_theta(x_t, c_f, t))^2) ] + E[ mean((eps - eps_theta(x_t, c, t))^2) ], c != f. The first term has no
bound: more steps end in any answer, so beta is small and the gradient is clipped. The baseline of Golatkar et al.
(https://arxiv.org/abs/1911.04933) and of SalUn's comparison.
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.errors import UserError, choose


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
        choose("schedule", self.schedule, training.SCHEDULES)
        if self.steps < 1 or self.batch < 1:
            raise UserError(f"--steps and --batch must be at least 1, got {self.steps} and {self.batch}")
        if not (0 < self.lr < 1e7 and 0 < self.beta < 1e7):
            raise UserError(f"--lr and beta must be positive numbers, got {self.lr} and {self.beta}")
        if not 0 <= self.retain_class_dropout <= 1:
            raise UserError(f"--retain-class-dropout must lie in 0..1, got {self.retain_class_dropout}")


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
    model, n = original.copy(), params.batch
    (forget_images, forget_labels), (images, labels) = (
        dataset.part("model", torch.tensor(forget)),
        dataset.part("model", dataset.others(forget)),
    )
    forget_x, retain_x = data.to_model(forget_images), data.to_model(images)
    ordinary, weight = torch.zeros(2 * n, dtype=torch.bool), torch.where(torch.arange(2 * n) < n, -params.beta / n, 1 / n)

    def batches(step: int) -> training.Batch:
        x_f, c_f = training.draw_rows(forget_x, forget_labels, n, seed=seed, step=step)
        x_r, c_r = training.draw_rows(retain_x, labels, n, seed=seed, step=step, row0=n)
        c_r = training.drop_labels(c_r, model.null, params.retain_class_dropout, seed=seed, step=step, row0=n)
        return training.Batch(torch.cat([x_f, x_r]), torch.cat([c_f, c_r]), ordinary, weight)

    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model
