"""Embedding inversion. Threat model: the attacker has the weights and n images of the class, and trains one row of the class table
(tier T3).

e* = argmin_e E ||eps - eps_theta(x_t, e, t)||^2 with every weight frozen: what a hundred numbers can bring back was still there.
Started from the class's own row, the null row, and the mean of the retained rows.

Source: concept inversion, https://arxiv.org/abs/2308.01508.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from auditkit import training
from auditkit.models import Model
from auditkit_attacks.curve import Rows, Schedule, Variant, check_whole, on, recover
from auditkit_attacks.relearn import few
from auditkit_attacks.target import AttackResult, Target, class_table

TIER = "forget"
STARTS = ("f", "null", "mean")


@dataclass(frozen=True, kw_only=True)
class Budget(Schedule):
    """What the attacker may spend. One row takes larger steps than a whole network."""

    steps: int = 200
    lrs: tuple[float, ...] = (1e-1,)
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
    """Learns the class's row from each start and at each learning rate."""
    images, labels = few(target, budget.images, seed)
    rows = on(target.encode(images), labels, budget, seed=seed)
    variants = [Variant(f"from {start}, lr={lr:g}", lr, _from(start, target, rows)) for start in STARTS for lr in budget.lrs]
    return recover(target, variants, budget, seed=seed, given=images, state=state, save=save, report=report)


def _from(start: str, target: Target, rows: Callable[[Model], Rows]) -> Callable[[Model], Rows]:
    """Freezes all but the class table; rows of other labels get no gradient, and Adam leaves what has none."""

    def ready(model: Model) -> Rows:
        table = class_table(model)
        begin: dict[str, Tensor] = {"null": table[target.null], "mean": table[target.retained].mean(0)}
        for k in target.forget:
            table[k] = begin.get(start, table[k])
        for p in model.net.parameters():
            p.requires_grad_(p.data_ptr() == table.data_ptr())
        return rows(model)

    return ready
