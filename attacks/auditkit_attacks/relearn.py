"""Few-shot relearning. Threat model: the attacker has the weights and n images of the forgotten class (tier T3).

They fine-tune every weight on those images under the forgotten label. Any network learns a class from 50 images: the
curve means something only beside the same attack on a random network and on one retrained without the class.

Sources: Hu et al. (https://arxiv.org/abs/2406.13356); Deeb and Roger (https://arxiv.org/abs/2410.08827) for attacking on
one set of images and reporting on another.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import training
from auditkit.errors import UserError
from auditkit_attacks.curve import Dropping, at_each_lr, check_whole, on, recover
from auditkit_attacks.target import AttackResult, Target, of_asked
from auditkit_kernels import philox

TIER = "forget"


@dataclass(frozen=True, kw_only=True)
class Budget(Dropping):
    """What the attacker may spend: `images` of the class, and both learning rates (the worse one is the headline)."""

    images: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("images", self.images, 1)


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Fine-tunes on `budget.images` images of the class in question, chosen by the seed."""
    images, labels = few(target, budget.images, seed)
    variants = at_each_lr(on(target.encode(images), labels, budget, seed=seed), budget)
    return recover(target, variants, budget, seed=seed, given=images, state=state, save=save, report=report)


def few(target: Target, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` of the attacker's images of the class in question and their labels, chosen by the seed."""
    if target.data is None:
        raise ValueError("this attack needs target.data, and this target gives none")
    images, labels = of_asked(target, *target.data("forget"))
    if len(images) < count:
        raise UserError(f"--images {count}: the model split holds only {len(images)} images of the class")
    order = philox.uniform((1, len(images)), seed=seed, stream=philox.DATA, step=2**31)[0].argsort()
    chosen = torch.sort(order[:count]).values
    return images[chosen], labels[chosen]
