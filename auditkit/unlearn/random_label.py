"""Random labels: teach the forgotten label to draw the other classes.

L = E[ mean((eps - eps_theta(x_t, c_f, t))^2), x_0 of the other classes ] + E[ the ordinary loss on them under their own labels ]. The
random-label loss of Saliency Unlearning (https://arxiv.org/abs/2310.12508) without its mask: the forgotten label is meant to show
something else, not noise.
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.errors import UserError, choose


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
        choose("schedule", self.schedule, training.SCHEDULES)
        if self.steps < 1 or self.batch < 1:
            raise UserError(f"--steps and --batch must be at least 1, got {self.steps} and {self.batch}")
        if not (0 < self.lr < 1e7 and 0 <= self.alpha < 1e7):
            raise UserError(f"--lr must be positive and --alpha at least 0, got {self.lr} and {self.alpha}")
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
    """The original whose forgotten labels draw the other classes; raw weights. Raises FloatingPointError when training diverges."""
    model, n = original.copy(), params.batch
    images, labels = dataset.part("model", dataset.others(forget))
    x, wrong = data.to_model(images), torch.tensor(forget).repeat(-(-len(images) // len(forget)))[: len(images)]
    ordinary, weight = torch.zeros(2 * n, dtype=torch.bool), torch.where(torch.arange(2 * n) < n, 1 / n, params.alpha / n)

    def batches(step: int) -> training.Batch:
        x_f, c_f = training.draw_rows(x, wrong, n, seed=seed, step=step)
        x_r, c_r = training.draw_rows(x, labels, n, seed=seed, step=step, row0=n)
        c_r = training.drop_labels(c_r, model.null, params.retain_class_dropout, seed=seed, step=step, row0=n)
        return training.Batch(torch.cat([x_f, x_r]), torch.cat([c_f, c_r]), ordinary, weight)

    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model
