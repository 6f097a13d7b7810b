"""Reverse the unlearning. Threat model: the attacker has the weights, knows the method's loss, and has no image (tier T1, adaptive).

They climb the loss that unlearning went down (and go down the one that it climbed), on images that the model itself makes: under the
forgotten label the null branch's for images of the class, the retained labels' for those of the others, or uniform noise, as the
method declares; the retained labels' under their own with the ordinary loss to hold the rest. Ascent on a squared error has no end,
so the curve is short and every point shows.

Source: the gradient-guided probe of https://arxiv.org/abs/2505.16174, adapted to a declared loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import training
from auditkit.models import Model
from auditkit_attacks.curve import Rows, Schedule, Variant, check_whole, recover
from auditkit_attacks.target import SELECTION, AttackResult, NotApplicable, Target
from auditkit_kernels import philox

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
    model, render, declared = target.network(), target.render, target.loss
    held = target.encode(torch.cat([render(model, k, budget.made, seed + SELECTION) for k in target.retained]))
    labels = torch.tensor(target.retained).repeat_interleave(budget.made)
    free = _stand_in(declared.held, lambda: target.encode(render(model, target.null, budget.made * 2, seed + SELECTION)), held, seed)
    made = len(held) + (len(free) if declared.held == "class" else 0)
    rows = _climbing(target, declared, free, held, labels, budget, seed)
    variants = [Variant(f"lr={lr:g}", lr, rows, declared.loss, declared.descend) for lr in budget.lrs]
    return recover(target, variants, budget, seed=seed, made=made, state=state, save=save, report=report)


def _stand_in(kind: str, null: Callable[[], Tensor], held: Tensor, seed: int) -> Tensor:
    """The x_0 of the rows to climb, for an attacker without an image: the null branch's, the retained labels', or uniform noise."""
    if kind == "class":
        return null()
    if kind == "others":
        return held
    flat = philox.uniform((len(held), held[0].numel()), seed=seed + SELECTION, stream=philox.SURROGATE)
    return (2 * flat - 1).float().reshape(held.shape)


def _climbing(
    target: Target, declared: training.ForgetLoss, free: Tensor, held: Tensor, labels: Tensor, budget: Budget, seed: int
) -> Callable[[Model], Rows]:
    """Half of the rows go against the forget loss, half go down the retain loss."""
    n = max(1, budget.batch // 2)
    first = torch.arange(2 * n) < n
    weight, is_forget = torch.where(first, -declared.sign / n, 1 / n), first & declared.marked
    asked = torch.full((len(free),), target.asked)

    def rows(step: int) -> training.Batch:
        x_f, c_f = training.draw_rows(free, asked, n, seed=seed, step=step)
        x_r, c_r = training.draw_rows(held, labels, n, seed=seed, step=step, row0=n)
        return training.Batch(torch.cat([x_f, x_r]), torch.cat([c_f, c_r]), is_forget, weight)

    return lambda model: rows
