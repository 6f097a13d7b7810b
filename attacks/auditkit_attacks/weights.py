"""Compare the weights. Threat model: the attacker has the weights and those of the model before unlearning (tier T1b, diagnostic).

How far did each block move, and would rounding undo it: an edit that vanishes in 8 bits is no edit. Counted are weights that are the
same number after rounding to 8 bits.

Sources: distance and connectivity as leading indicators, https://arxiv.org/abs/2505.22310; rounding, https://arxiv.org/abs/2410.16454.
"""

from dataclasses import dataclass

from auditkit import training
from auditkit.errors import UserError
from auditkit.results import Measure
from auditkit_attacks.quantise import rounded
from auditkit_attacks.target import AttackResult, Cost, NotApplicable, Point, Target

TIER = "measure"
NEEDS = ("original",)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Which rounding is asked about."""

    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise UserError(f"--set bits takes 2 to 16, got {self.bits}")


def run(
    target: Target,
    budget: Budget,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Distances by block, and the share of weights that rounding makes equal again."""
    if target.network is None:
        raise ValueError("weights needs target.network, and this target gives none")
    if target.original is None:
        raise NotApplicable("no original given (--original RUN|DIR)")
    mine, theirs = dict(target.network().net.named_parameters()), dict(target.original().net.named_parameters())
    if {k: p.shape for k, p in mine.items()} != {k: p.shape for k, p in theirs.items()}:
        raise NotApplicable("the original has another architecture")
    same, moved = 0, 0
    blocks: dict[str, tuple[float, float]] = {}
    for name, p in mine.items():
        changed = p.detach().ne(theirs[name])
        equal = rounded(p.detach(), budget.bits).eq(rounded(theirs[name].detach(), budget.bits))
        same, moved = same + int((equal & changed).sum()), moved + int(changed.sum())
        block = name.split(".")[0]
        far, size = blocks.get(block, (0.0, 0.0))
        difference = float((p.detach() - theirs[name].detach()).double().square().sum())
        blocks[block] = (far + difference, size + float(theirs[name].detach().double().square().sum()))
    n = sum(p.numel() for p in mine.values())
    measures = tuple(
        Measure(name=f"moved: {block}", value=(far / size) ** 0.5 if size else None, n=n, unit="of its norm", note="exact, no interval")
        for block, (far, size) in blocks.items()
    )
    setting = f"changed weights that {budget.bits} bits make equal again"
    notes = () if moved else ("no weight was changed",)
    return AttackResult(
        curve=(Point(setting=setting, step=0, hits=same, n=max(moved, 1)),),
        images={},
        cost=Cost(evaluations=0, sampled_images=0),
        notes=notes,
        measures=measures,
    )
