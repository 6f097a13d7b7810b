"""Does any branch still know the class? Threat model: the attacker has the weights and images of the class, and generates nothing
(tier T1).

A denoiser is a classifier: the branch that knows an image predicts its noise best. Counted are images of the class that the null
branch explains as well as the better half of the retained images (50 % where it knows the class like any other, few where it never
saw it), and better than every retained label does. No sampling, no judge.

Sources: diffusion classifiers (https://arxiv.org/abs/2303.16203); destruction against avoidance (https://arxiv.org/abs/2505.17013).
"""

import torch

from auditkit import training
from auditkit.results import Measure
from auditkit_attacks.errors_of import Budget as Budget
from auditkit_attacks.errors_of import errors, of_class
from auditkit_attacks.target import AttackResult, Cost, Point, Target

TIER = "measure"
VERSION = 2
MOST = 300  # retained images that say what the null branch's error usually is


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Errors of the class's images under the null label, the class's own and each retained one."""
    seen, unseen = of_class(target)
    eps, images, before = target.eps, torch.cat([seen, unseen]), target.spent()
    assert eps is not None

    def loss(label: int) -> torch.Tensor:
        found = errors(eps, images, label, budget, seed=seed).mean(1)
        if report:
            report(label + 1, 0.0)
        return found

    others = torch.stack([loss(k) for k in target.retained]).amin(0)
    null, own = loss(target.null), loss(target.asked)
    n = len(images)
    assert target.data is not None
    retain = target.data("retain")[0]
    some = torch.randperm(len(retain), generator=torch.Generator().manual_seed(0))[:MOST]  # folders come sorted by class
    usual = errors(eps, target.encode(retain[some]), target.null, budget, seed=seed).mean(1).median()
    curve = (
        Point(setting="null knows f like the rest", step=0, hits=int((null <= usual).sum()), n=n),
        Point(setting="null beats all retained labels", step=0, hits=int((null < others).sum()), n=n),
        Point(setting="f beats all retained labels", step=0, hits=int((own < others).sum()), n=n),
    )
    measures = (
        Measure(name="error under null", value=float(null.mean()), n=n, unit="per pixel", note="no interval: shared noise"),
        Measure(name="error under f", value=float(own.mean()), n=n, unit="per pixel", note="no interval: shared noise"),
        Measure(
            name="least error under a retained label", value=float(others.mean()), n=n, unit="per pixel", note="no interval: shared noise"
        ),
    )
    cost = Cost(forget_images=len(seen), evaluations=target.spent() - before, sampled_images=0)
    return AttackResult(curve=curve, images={}, cost=cost, measures=measures)
