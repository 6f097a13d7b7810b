"""Few-shot relearning. Threat model: the attacker has the weights and n images of the forgotten class (tier T3).

They fine-tune every weight on those images under the forgotten label. Any network learns a class from 50 images: the
curve means something only beside the same attack on a random network and on one retrained without the class.

Sources: Hu et al. (https://arxiv.org/abs/2406.13356); Deeb and Roger (https://arxiv.org/abs/2410.08827) for attacking on
one set of images and reporting on another.
"""

from dataclasses import dataclass

import torch

from auditkit import training
from auditkit.errors import UserError
from auditkit_attacks.curve import Schedule, recover
from auditkit_attacks.target import AttackResult, Target
from auditkit_kernels import philox

TIER = "weights"
NEEDS = "forget"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the attacker may spend: `images` of the class, and both learning rates (the worse one is the headline)."""

    steps: int = 100
    images: int = 50
    batch: int = 64
    lrs: tuple[float, ...] = (1e-4, 5e-4)
    n: int = 100
    class_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"--images must be at least 1, got {self.images}")
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        return Schedule(steps=self.steps, batch=self.batch, lrs=self.lrs, n=self.n, class_dropout=self.class_dropout)


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Fine-tunes on `budget.images` images of the forgotten classes, chosen by the seed."""
    if target.data is None:
        raise ValueError("relearn needs target.data, and this target gives none")
    images, labels = target.data("forget")
    if len(images) < budget.images:
        raise UserError(f"--images {budget.images}: the model split holds only {len(images)} images of the class")
    order = philox.uniform((1, len(images)), seed=seed, stream=philox.DATA, step=2**31)[0].argsort()
    chosen = torch.sort(order[: budget.images]).values
    return recover(target, images[chosen], labels[chosen], budget.schedule, seed=seed, state=state, save=save, report=report)
