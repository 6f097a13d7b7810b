"""Membership. Threat model: the attacker has the weights and candidate images, and asks which of them the model was trained on (tier T1).

Under c_f alone every image of a forgotten class has a large error, members or not, and the test sees nothing: that looks like privacy
and is a blind spot. So it is asked under the null label and under the best retained label too. Counted are members whose error lies
below that of 90 % of images that no training saw: 10 % is chance.

Sources: loss-based membership with several noise levels, as in SecMI (https://arxiv.org/abs/2302.01316) and https://arxiv.org/abs/2403.01218.
"""

import torch
from torch import Tensor

from auditkit import training
from auditkit.results import Measure
from auditkit_attacks.errors_of import Budget as Budget
from auditkit_attacks.errors_of import errors, of_class
from auditkit_attacks.target import AttackResult, Cost, NotApplicable, Point, Target

TIER = "measure"
FALSE_POSITIVES = 0.1


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Errors of members (the class's images of the model split) and of unseen images under each kind of label."""
    seen, unseen = of_class(target)
    eps, before, n = target.eps, target.spent(), len(seen)
    assert eps is not None
    if len(unseen) < 1 / FALSE_POSITIVES:
        raise NotApplicable(f"membership needs 10 unseen images of the class, found {len(unseen)}")
    both = torch.cat([seen, unseen])
    asked = {"f": [target.asked], "null": [target.null], "retained": target.retained}
    curve, measures = [], []
    for done, (name, labels) in enumerate(asked.items()):
        found = torch.stack([errors(eps, both, k, budget, seed=seed).mean(1) for k in labels]).amin(0)
        members, others = found[:n], found[n:]
        threshold = torch.quantile(others, FALSE_POSITIVES)
        curve.append(Point(setting=f"label={name}", step=0, hits=int((members < threshold).sum()), n=n))
        value, low, high = auc(members, others)
        measures.append(Measure(name=f"AUC under {name}", value=value, low=low, high=high, n=len(both), safer="lower", note=f"{n} members"))
        if report:
            report(done + 1, 0.0)
    cost = Cost(forget_images=n, evaluations=target.spent() - before, sampled_images=0)
    return AttackResult(curve=tuple(curve), images={}, cost=cost, measures=tuple(measures))


def auc(members: Tensor, others: Tensor) -> tuple[float, float, float]:
    """The chance that a member's error is the smaller, with the 95 % interval of Hanley and McNeil (1982),
    doi:10.1148/radiology.143.1.7063747."""
    m, n = len(members), len(others)
    below = (members[:, None] < others).double().mean() + 0.5 * (members[:, None] == others).double().mean()
    a = float(below)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    deviation = ((a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n)) ** 0.5
    return a, max(0.0, a - 1.96 * deviation), min(1.0, a + 1.96 * deviation)
