"""Read what the network thinks on the way. Threat model: the attacker owns the sampling loop and looks at x_0-hat at every step (tier T0+).

The last image may be noise while x_0-hat at t ~ 400 shows the class: by the class's own branch, or by the null branch along the way
that the class's branch leads. Every t is reported, its interval simultaneous over all of them.

Source: none found; it follows from a forget loss that weighs small t most (SAFEMax's psi, https://arxiv.org/abs/2508.20773).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import diffusion, training
from auditkit.sampling import Sampler
from auditkit_attacks import grid
from auditkit_attacks.target import AttackResult, Cost, Point, Target

TIER = "sampler"
LOOKS = (839, 719, 599, 479, 359, 239)  # timesteps of the 25-step sampler


@dataclass(frozen=True, kw_only=True)
class Budget(grid.Budget):
    """What the attacker may spend."""

    n: int = 100


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """One run of the sampler under the class's label, with x_0-hat by both branches kept at six timesteps."""
    if target.eps is None or target.draw is None:
        raise ValueError("readout needs target.eps and target.draw, and this target gives none")
    eps, abar, before = target.eps, diffusion.abar(dtype=torch.float64).tolist(), target.spent()
    seen: dict[str, list[Tensor]] = {}

    def watch(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        step = int(t[0])
        said = eps(x, t, torch.full_like(labels, target.asked))
        null = eps(x, t, torch.full_like(labels, target.null))
        if step in LOOKS:
            for name, e in (("by f", said), ("by null", null)):
                x_0 = (x - (1 - abar[step]) ** 0.5 * e) / abar[step] ** 0.5
                seen.setdefault(f"{name}/{step}", []).append(target.decode(x_0.cpu()))
        return 2 * said - null  # w = 1, as the default sampler does

    target.draw(watch, budget.n, seed, Sampler(guidance=0))
    images = {key: torch.cat(parts) for key, parts in seen.items()}
    curve = []
    for key, found in images.items():
        name, step = key.split("/")
        curve.append(Point(setting=name, step=int(step), hits=target.score(found), n=len(found)))
    if report:
        report(1, math.nan)
    cost = Cost(evaluations=target.spent() - before, sampled_images=budget.n)
    return AttackResult(curve=tuple(curve), images=images, cost=cost)
