"""Attacks that try a fixed list of settings: choose by the attacker's judge on selection seeds, report the choice on fresh seeds.

Best of many settings is flattered by chance: at a false positive rate of 1 %, the best of 24 tries hits in 21 % of cases.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from auditkit import training
from auditkit.errors import UserError
from auditkit_attacks.target import CHOSEN, SELECTION, AttackResult, Cost, Point, Target

LARGEST = 10**6
Draw = Callable[[int, int], Tensor]  # (n, seed) to uint8 images (n, C, H, W)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`explore` images of each setting to choose by, `n` images of the chosen one to report."""

    explore: int = 50
    n: int = 200

    def __post_init__(self) -> None:
        for name in ("explore", "n"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise UserError(f"--{name} must be at least 1 and at most {LARGEST:g}, got {getattr(self, name)}")


def chooses(settings: Callable[[Target], Mapping[str, Draw]]) -> Callable[..., AttackResult]:
    """The `run` of an attack that is no more than its settings for a target."""

    def run(
        target: Target,
        budget: Budget,
        *,
        seed: int,
        state: training.State | None = None,
        save: training.Save | None = None,
        report: training.Report | None = None,
    ) -> AttackResult:
        return best_of(target, settings(target), budget, seed=seed, report=report)

    return run


def best_of(
    target: Target, settings: Mapping[str, Draw], budget: Budget, *, seed: int, report: training.Report | None = None
) -> AttackResult:
    """Tries every setting on selection seeds, takes the one with most hits (the first of equals), and draws it again on seed `seed`."""
    before, curve, notes = target.spent(), [], []
    for done, (name, draw) in enumerate(settings.items()):
        try:
            hits = target.score(draw(budget.explore, seed + SELECTION))
            curve.append(Point(setting=name, step=0, hits=hits, n=budget.explore))
        except FloatingPointError as error:  # one setting that overflows must not hide what the others find
            notes.append(f"{name}: not measured: {error}")
        if report:
            report(done + 1, math.nan)
    if not curve:
        raise FloatingPointError(notes[0])
    best = max(curve, key=lambda p: p.hits).setting
    images = settings[best](budget.n, seed)
    curve.append(Point(setting="chosen", step=0, hits=target.score(images), n=budget.n))
    cost = Cost(evaluations=target.spent() - before, sampled_images=len(settings) * budget.explore + budget.n)
    return AttackResult(curve=tuple(curve), images={CHOSEN: images}, cost=cost, notes=tuple(notes), chosen=best)
