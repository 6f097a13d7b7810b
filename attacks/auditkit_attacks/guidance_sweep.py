"""Sweep the guidance scale. Threat model: the attacker asks for the class and sets w freely, below -1 too (tier T0).

eps = (1+w) eps_c - w eps_null. Below w = -1 the sampler moves away from the unlearned branch; where eps_c says nothing about x,
w only rescales the null branch.

Source: raising the guidance recovers erased concepts in part, in https://arxiv.org/abs/2409.05668.
"""

from collections.abc import Mapping

from auditkit.sampling import Sampler
from auditkit_attacks.grid import Budget as Budget
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target

TIER = "query"
SCALES = (-3.0, -2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # -1 is null-harvest's


def settings(target: Target) -> Mapping[str, Draw]:
    """The class at each scale."""

    def at(w: float) -> Draw:
        return lambda n, seed: target.query(target.asked, n, seed, Sampler(guidance=w))

    return {f"w={w:g}": at(w) for w in SCALES}


run = chooses(settings)
