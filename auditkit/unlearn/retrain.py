"""Train from scratch, without the forgotten classes: what "never seen" means, and with none left out the base model.

The reference of every unlearning method, and the floor of every relearning attack. The class rows of what was left out
keep their random values, so this model's answer to the forgotten label is arbitrary: it is measured, never assumed.
"""

import math
from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.errors import UserError

# What differs from the defaults for the other architectures of models.py. `small`: a night on one core; not compared with other recipes,
# and no model has been trained to its end yet. `cifar10`: that of Selective Amnesia and SalUn but for their flips, with AdamW; days on a
# GPU, and nothing for a CPU.
RECIPES: dict[str, dict[str, float]] = {
    "digits": {},
    "small": {"steps": 20_000, "batch": 64, "lr": 1e-3},
    "cifar10": {"steps": 800_000, "lr": 2e-4, "ema": 0.9999},
    "stl10": {"steps": 250_000, "lr": 2e-4, "ema": 0.9999},
}


@dataclass(frozen=True, kw_only=True)
class Params:
    """AdamW with one cosine cycle, EMA and label dropout for guidance (https://arxiv.org/abs/2207.12598)."""

    steps: int = 4000
    batch: int = 128
    lr: float = 3e-3
    ema: float = 0.999
    class_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise UserError(f"--steps and --batch must be at least 1, got {self.steps} and {self.batch}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"--lr must be a positive number, got {self.lr}")
        if not (0 <= self.ema < 1 and 0 <= self.class_dropout <= 1):
            raise UserError(f"ema must lie in 0..1 (exclusive) and class dropout in 0..1, got {self.ema} and {self.class_dropout}")


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
    """A denoiser of the original's architecture trained on the model split without `forget`; EMA weights."""
    images, labels = dataset.part("model", dataset.others(forget))
    model = models.random_like(original, seed=seed)
    held = model.encode(images) if model.codec else images
    weight = torch.full((params.batch,), 1 / params.batch)
    retain = torch.zeros(params.batch, dtype=torch.bool)

    def batches(step: int) -> training.Batch:
        x0, chosen = training.draw_rows(held, labels, params.batch, seed=seed, step=step)
        if not model.codec:
            x0 = model.encode(x0)  # not all at once: 50,000 photographs are 150 MB as bytes and 600 as floats
        return training.Batch(x0, training.drop_labels(chosen, model.null, params.class_dropout, seed=seed, step=step), retain, weight)

    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule="cosine", ema=params.ema)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model
