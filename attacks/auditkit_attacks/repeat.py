"""Ask again. Threat model: the attacker asks the model for the class, as often as they like (tier T0).

The chance line of every other attack: what more seeds alone bring. Best of N asks is 1 - (1 - rate)^N, and a judge that errs on 1 % of
noise finds the class in 40 % of 51 asks.

Source: the seed search of UnlearnDiffAtk (https://arxiv.org/abs/2310.11868).
"""

from collections.abc import Mapping

from auditkit_attacks.grid import Budget as Budget
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target

TIER = "query"


def settings(target: Target) -> Mapping[str, Draw]:
    """The class, as any user would ask for it."""
    return {"as asked": lambda n, seed: target.query(target.asked, n, seed)}


run = chooses(settings)
