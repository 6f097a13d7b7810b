"""Where was it edited? Threat model: the attacker has the weights and images of the class, and generates nothing (tier T1).

r(t) = error of the class's images under c_f, over the mean error of the retained images under their own labels, at each t. An edit of
the forgotten branch is an error that images of no other class have; where it ends, handoff begins. Counted are pairs of image and
timestep with r(t) <= 1.5: where the class's own branch still knows it.

Source: none found; what SAFEMax's psi(t) implies (https://arxiv.org/abs/2508.20773).
"""

import torch

from auditkit import training
from auditkit.results import Measure
from auditkit_attacks.errors_of import Budget as Budget
from auditkit_attacks.errors_of import errors, of_class
from auditkit_attacks.target import AttackResult, Cost, Point, Target

TIER = "measure"
FLOORS = ("retrained",)  # a random network errs alike on everything, which looks like knowing
EDITED = 1.5
EACH = 20  # images of each retained class


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """The profile r(t), and the share of images that the class's branch still knows at each t."""
    seen, unseen = of_class(target)
    eps, before, images = target.eps, target.spent(), torch.cat([seen, unseen])
    assert eps is not None
    assert target.data is not None
    others, labels = target.data("retain")
    some = {k: target.encode(others[labels == k][:EACH]) for k in target.retained}
    usual = torch.stack([errors(eps, x, k, budget, seed=seed).mean(0) for k, x in some.items()]).mean(0)
    profile = errors(eps, images, target.asked, budget, seed=seed) / usual
    curve = [
        Point(setting="known by f", step=t, hits=int((profile[:, k] <= EDITED).sum()), n=len(images))
        for k, t in enumerate(budget.timesteps)
    ]
    measures = tuple(
        Measure(name=f"r(t={t})", value=float(profile[:, k].mean()), n=len(images), unit="times", note="no interval: shared noise")
        for k, t in enumerate(budget.timesteps)
    )
    cost = Cost(forget_images=len(seen), evaluations=target.spent() - before, sampled_images=0)
    return AttackResult(curve=tuple(curve), images={}, cost=cost, measures=measures)
