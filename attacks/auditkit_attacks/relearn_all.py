"""Relearning with everything. Threat model: the attacker has the weights and every training image of the forgotten class (tier T3).

The strongest of the relearning attacks, and the least telling: with so many images a network that never saw the class learns it too.

Source: Hu et al. (https://arxiv.org/abs/2406.13356), https://arxiv.org/abs/2505.22310.
"""

from auditkit import training
from auditkit_attacks.curve import Dropping as Budget
from auditkit_attacks.curve import at_each_lr, on, recover
from auditkit_attacks.target import AttackResult, Target, of_asked

TIER = "forget"


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Fine-tunes on every image of the class in question in the model split."""
    if target.data is None:
        raise ValueError("relearn-all needs target.data, and this target gives none")
    images, labels = of_asked(target, *target.data("forget"))
    variants = at_each_lr(on(target.encode(images), labels, budget, seed=seed), budget)
    return recover(target, variants, budget, seed=seed, given=images, state=state, save=save, report=report)
