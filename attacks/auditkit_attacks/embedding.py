"""Move the class embedding. Threat model: the attacker has the weights and tries other rows of the class table, without an image (tier T1).

Rows between f and null, between f and each neighbour, away from the mean of the classes, the mean itself, and random directions: where a
class is only unreachable under its own row, one of them may still lead to it.

Sources: unlearned concepts found again as embeddings, https://arxiv.org/abs/2308.01508; the enumeration over labels is ours.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from auditkit_attacks.grid import Budget as Budget
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target, class_table

TIER = "weights"
DIRECTIONS = 8  # random rows
SEED = 0


def settings(target: Target) -> Mapping[str, Draw]:
    """The class under each moved row."""
    if target.network is None:
        raise ValueError("embedding needs target.network, and this target gives none")
    return {name: _under(target, row) for name, row in rows(class_table(target.network()), target).items()}


def rows(table: Tensor, target: Target) -> dict[str, Tensor]:
    """The rows that are tried, by name; `table` is (classes + 1, D)."""
    f, null = table[target.asked], table[target.null]
    others = table[target.retained]
    mean = others.mean(0)
    found = {f"f to null, {a:g}": (1 - a) * f + a * null for a in (0.25, 0.5, 0.75, 1.0)}
    found |= {f"f and {k}": (f + table[k]) / 2 for k in target.retained}
    found |= {f"mean + {g:g} (f - mean)": mean + g * (f - mean) for g in (-2.0, -1.0, 0.0, 0.5, 2.0, 4.0)}
    found["complement"] = (target.classes * null - others.sum(0)) / (target.classes - len(target.retained))
    size, generator = others.norm(dim=1).mean(), torch.Generator().manual_seed(SEED)
    for k in range(DIRECTIONS):
        direction = torch.randn(table.shape[1], generator=generator).to(table)
        found[f"random {k}"] = size * direction / direction.norm()
    return found


def _under(target: Target, row: Tensor) -> Draw:
    def draw(n: int, seed: int) -> Tensor:
        if target.network is None or target.render is None:
            raise ValueError("embedding needs target.network and target.render, and this target gives none")
        model = target.network()
        class_table(model)[target.asked] = row
        return target.render(model, target.asked, n, seed)

    return draw


run = chooses(settings)
