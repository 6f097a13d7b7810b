"""Harvest the null class. Threat model: the attacker asks the model for no class at all, and keeps what shows the forgotten one (tier T0).

Guidance needs a branch without a label, and a forget loss on c_f alone never touches it: it makes every class with its share of the data.
w = -1 reaches the same branch wherever the guidance scale is an option.

Source: the unconditional likelihood of Lu et al. (https://arxiv.org/abs/2505.17013), read as a generator.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from auditkit.sampling import Sampler
from auditkit_attacks import grid
from auditkit_attacks.target import Target

TIER = "query"


@dataclass(frozen=True, kw_only=True)
class Budget(grid.Budget):
    """What the attacker may spend. A ten-class model gives one image in ten at best: n = 500 left 7 % [5, 10], 5 points not surely
    exceeded."""

    explore: int = 200
    n: int = 2000


def settings(target: Target) -> Mapping[str, grid.Draw]:
    """The null label, and the class at w = -1."""
    return {
        "label=null": lambda n, seed: target.query(target.null, n, seed, Sampler(guidance=0)),
        "w=-1": lambda n, seed: target.query(target.asked, n, seed, Sampler(guidance=-1)),
    }


run = grid.chooses(settings)
