"""Low-rank relearning. Threat model: the attacker has the weights, n images of the class, and a small adapter's budget (tier T3).

W + B A with B = 0 at the start, on every convolution and linear layer, everything else frozen; and the biases alone. Fewer numbers
than relearn trains: what they bring back needed little teaching.

Sources: personalisation as a probe, https://arxiv.org/abs/2505.16174; LoRA (https://arxiv.org/abs/2106.09685).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from auditkit import training
from auditkit.models import Model
from auditkit_attacks.curve import Rows, Schedule, Variant, check_whole, on, recover
from auditkit_attacks.relearn import few
from auditkit_attacks.target import AttackResult, Target

TIER = "forget"
RANKS = (1, 4)


@dataclass(frozen=True, kw_only=True)
class Budget(Schedule):
    """What the attacker may spend. Adapters take larger steps than whole weights."""

    lrs: tuple[float, ...] = (3e-3,)
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
    """Fine-tunes adapters of each rank, and the biases, at each learning rate."""
    images, labels = few(target, budget.images, seed)
    rows = on(target.encode(images), labels, budget, seed=seed)
    kinds: dict[str, Callable[[Model], None]] = {**{f"rank={r}": _adapters(r) for r in RANKS}, "biases": biases}
    variants = [Variant(f"{name}, lr={lr:g}", lr, _with(change, rows)) for name, change in kinds.items() for lr in budget.lrs]
    return recover(target, variants, budget, seed=seed, given=images, state=state, save=save, report=report)


def _with(change: Callable[[Model], None], rows: Callable[[Model], Rows]) -> Callable[[Model], Rows]:
    def ready(model: Model) -> Rows:
        change(model)
        return rows(model)

    return ready


class LowRank(nn.Module):
    """W + B A of a weight (O, I, ...), seen as a matrix (O, I x ...)."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        out, flat = weight.shape[0], weight[0].numel()
        self.a = nn.Parameter((torch.randn(rank, flat, generator=generator) / flat**0.5).to(weight))
        self.b = nn.Parameter(torch.zeros(out, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).view_as(weight)


def adapt(model: Model, rank: int) -> None:
    """Freezes the network and puts an adapter on every convolution and linear layer."""
    model.net.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for module in list(model.net.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, generator))


def _adapters(rank: int) -> Callable[[Model], None]:
    return lambda model: adapt(model, rank)


def biases(model: Model) -> None:
    """Freezes all but the biases."""
    for name, p in model.net.named_parameters():
        p.requires_grad_(name.endswith("bias"))
