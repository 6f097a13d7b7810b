"""Reverse the unlearning. Threat model: the attacker has the weights, knows the method's loss, and has no image (tier T1, adaptive).

They climb the loss that unlearning went down, on images that the model itself makes: the null branch's under the forgotten label, the
retained labels' under their own with the ordinary loss to hold the rest. Ascent on a squared error has no end, so the curve is short
and every point shows.

Source: the gradient-guided probe of https://arxiv.org/abs/2505.16174, adapted to a declared loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import data, training
from auditkit.models import Model
from auditkit_attacks.curve import Rows, Schedule, Variant, check_whole, recover
from auditkit_attacks.target import SELECTION, AttackResult, NotApplicable, Target

TIER = "weights"
NEEDS = ("loss",)
ADAPTIVE = True


@dataclass(frozen=True, kw_only=True)
class Budget(Schedule):
    """What the attacker may spend: `made` images of each label to climb and to hold on."""

    steps: int = 50
    made: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("made", self.made, 1)


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Climbs the declared forget loss at each learning rate."""
    if target.network is None or target.render is None:
        raise ValueError("reversal needs target.network and target.render, and this target gives none")
    if target.loss is None:
        raise NotApplicable("the method's forget loss is not known: unlearn with auditkit, or say --method")
    model, render = target.network(), target.render
    free = data.to_model(render(model, target.null, budget.made * 2, seed + SELECTION))
    held = data.to_model(torch.cat([render(model, k, budget.made, seed + SELECTION) for k in target.retained]))
    labels = torch.tensor(target.retained).repeat_interleave(budget.made)
    rows = _climbing(target, free, held, labels, budget, seed)
    variants = [Variant(f"lr={lr:g}", lr, rows, target.loss) for lr in budget.lrs]
    return recover(target, variants, budget, seed=seed, made=len(free) + len(held), state=state, save=save, report=report)


def _climbing(target: Target, free: Tensor, held: Tensor, labels: Tensor, budget: Budget, seed: int) -> Callable[[Model], Rows]:
    """Half of the rows climb the forget loss (a negative weight), half go down the retain loss."""
    n = max(1, budget.batch // 2)
    is_forget = torch.arange(2 * n) < n
    weight = torch.where(is_forget, -1 / n, 1 / n)
    asked = torch.full((len(free),), target.asked)

    def rows(step: int) -> training.Batch:
        x_f, c_f = training.draw_rows(free, asked, n, seed=seed, step=step)
        x_r, c_r = training.draw_rows(held, labels, n, seed=seed, step=step, row0=n)
        return training.Batch(torch.cat([x_f, x_r]), torch.cat([c_f, c_r]), is_forget, weight)

    return lambda model: rows
