"""Fine-tuning on the model's own images. Threat model: the attacker has the weights, and no image at all but those that the model
makes (tier T2).

Images of the retained labels by the attacked model itself stand in for an auxiliary set: under their own labels, and under labels
shuffled over all classes, the forgotten one among them, which opens the forgotten row to gradients without showing its class.

Sources: DiMRA's auxiliary set (https://arxiv.org/abs/2512.03564); concepts that come back after benign fine-tuning,
https://arxiv.org/abs/2410.08074.
"""

from dataclasses import dataclass

import torch

from auditkit import training
from auditkit_attacks.curve import Dropping, at_each_lr, check_whole, on, recover
from auditkit_attacks.target import SELECTION, AttackResult, Target
from auditkit_kernels import philox

TIER = "retain"


@dataclass(frozen=True, kw_only=True)
class Budget(Dropping):
    """What the attacker may spend: `made` images of each retained label."""

    class_dropout: float = 0.1
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
    """Samples the retained labels from the attacked model, then fine-tunes on that."""
    if target.network is None or target.render is None:
        raise ValueError("auxiliary needs target.network and target.render, and this target gives none")
    model, render = target.network(), target.render
    images = torch.cat([render(model, k, budget.made, seed + SELECTION) for k in target.retained])
    labels = torch.tensor(target.retained).repeat_interleave(budget.made)
    order = philox.uniform((1, len(labels)), seed=seed, stream=philox.DATA, step=2**31 + 2)[0].argsort()
    shuffled = order % target.classes
    x = target.encode(images)
    variants = at_each_lr(on(x, labels, budget, seed=seed), budget, "own labels, ")
    variants += at_each_lr(on(x, shuffled, budget, seed=seed), budget, "shuffled labels, ")
    return recover(target, variants, budget, seed=seed, made=len(images), state=state, save=save, report=report)
