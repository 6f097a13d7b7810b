"""Retain-only fine-tuning. Threat model: the attacker has the weights and images of the other classes (tier T2).

They never touch the forgotten class and need not even know which it is: they fine-tune on retained images and ask for the
class again. What comes back was never removed; a model that never saw the class cannot pass this test by learning.

Sources: DiMRA (https://arxiv.org/abs/2512.03564); Siddiqui et al. (https://arxiv.org/abs/2505.22310), where retain-only
fine-tuning brings classifiers' forget accuracy back while a retrained model stays at chance.
"""

from dataclasses import dataclass

from auditkit import training
from auditkit_attacks.curve import Dropping, at_each_lr, on, recover
from auditkit_attacks.target import AttackResult, Target

TIER = "retain"


@dataclass(frozen=True, kw_only=True)
class Budget(Dropping):
    """What the attacker may spend. Label dropout as in training, which also trains the null branch."""

    class_dropout: float = 0.1


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Fine-tunes on every retained image of the model split, all of which keep their own labels."""
    if target.data is None:
        raise ValueError("finetune needs target.data, and this target gives none")
    images, labels = target.data("retain")
    variants = at_each_lr(on(target.encode(images), labels, budget, seed=seed), budget)
    return recover(target, variants, budget, seed=seed, state=state, save=save, report=report)
