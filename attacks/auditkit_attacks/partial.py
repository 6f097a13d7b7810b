"""Start from a picture. Threat model: the attacker asks the model to finish noised pictures of the class that they have (tier T0,
image-to-image).

The picture itself carries the class: at small t any model keeps it. So every t is reported, and means something only beside the same t on a
model that never saw the class.

Source: partial diffusion in https://arxiv.org/abs/2409.05668; SDEdit (https://arxiv.org/abs/2108.01073).
"""

import math
from dataclasses import dataclass

from auditkit import diffusion, training
from auditkit.errors import UserError
from auditkit.sampling import Sampler
from auditkit_attacks import grid
from auditkit_attacks.target import AttackResult, Cost, Point, Target, of_asked
from auditkit_kernels import philox

TIER = "query"
NEEDS = ("pictures",)
LABELS = ("label=f", "label=null")


@dataclass(frozen=True, kw_only=True)
class Budget(grid.Budget):
    """What the attacker may spend: n pictures started at each t."""

    n: int = 100
    starts: tuple[float, ...] = (500, 600, 700, 800, 900)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.starts or not all(0 <= t < diffusion.T for t in self.starts):
            raise UserError(f"--set starts takes timesteps from 0 to {diffusion.T - 1}, got {self.starts}")


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Noises the attacker's pictures to each t and asks the model to go on, with the class's label and without one."""
    if target.data is None:
        raise ValueError("partial needs target.data, and this target gives none")
    before, (pictures, _) = target.spent(), of_asked(target, *target.data("forget"))
    u = philox.uniform((budget.n, 1), seed=seed, stream=philox.DATA, step=2**31 + 1)[:, 0]
    x = target.encode(pictures[(u * len(pictures)).long().clamp_(max=len(pictures) - 1)])
    found, curve = {}, []
    for name in LABELS:
        label, sampler = (target.asked, Sampler()) if name == "label=f" else (target.null, Sampler(guidance=0))
        for t in map(int, budget.starts):
            images = target.query(label, budget.n, seed, sampler, (x, t))
            found[f"{name}/{t}"] = images
            curve.append(Point(setting=name, step=t, hits=target.score(images), n=budget.n))
            if report:
                report(len(curve), math.nan)
    cost = Cost(forget_images=min(len(pictures), budget.n), evaluations=target.spent() - before, sampled_images=budget.n * len(curve))
    return AttackResult(curve=tuple(curve), images=found, cost=cost)
