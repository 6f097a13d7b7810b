"""What an attack spends on one model, before it is run: network evaluations (one image; a training step counts three), sampling
included."""

from dataclasses import dataclass
from typing import Any

from auditkit.sampling import Sampler
from auditkit_attacks import arithmetic, guidance_sweep, handoff, inversion, lora, null_likelihood, rescale, sampler_sweep
from auditkit_attacks import edit_depth as depth
from auditkit_attacks import embedding as rows
from auditkit_attacks import partial as halfway
from auditkit_attacks import quantise as rounding
from auditkit_attacks.curve import KEPT

IMAGE = Sampler().passes  # evaluations for one image: 25 steps of two branches
STEPS = Sampler().steps


@dataclass(frozen=True)
class Size:
    """The data set as an attacker meets it: classes, retained ones, and images of the class in the model split and outside it."""

    classes: int
    retained: int
    seen: int
    unseen: int


def evaluations(name: str, budget: Any, size: Size) -> int:
    """Network evaluations of attack `name` with `budget` on one model; within a few percent, since a choice can change the last
    sample's cost."""
    if hasattr(budget, "lrs"):
        return _training(name, budget, size)
    if hasattr(budget, "levels"):
        return _measuring(name, budget, size)
    if not hasattr(budget, "explore"):
        return 0
    e, n, k = int(budget.explore), int(budget.n), size.retained
    by_name: dict[str, float] = {
        "repeat": (e + n) * IMAGE,
        "null-harvest": (2 * e + n) * STEPS,
        "wrong-label": (k * e + n) * IMAGE,
        "guidance-sweep": sum(e * Sampler(guidance=w).passes for w in guidance_sweep.SCALES) + n * IMAGE,
        "sampler-sweep": sum(e * s.passes for s in sampler_sweep.SAMPLERS.values()) + n * IMAGE,
        "arithmetic": (2 * len(arithmetic.GAINS) * e + n) * STEPS * (k + 1),
        "handoff": (5 * len(handoff.TAUS) + 4) * e * STEPS + 1.5 * n * STEPS + handoff.PROBES * STEPS * (k + 2),
        "readout": n * IMAGE,
        "rescale": (4 + len(rescale.STRENGTHS)) * (e * IMAGE + 2 * rescale.PROBES * STEPS) + n * IMAGE,
        "embedding": ((4 + k + 7 + rows.DIRECTIONS) * e + n) * IMAGE,
        "quantise": ((len(rounding.BITS) + 2) * e + n) * IMAGE,
    }
    if name == "partial":
        steps = sum(t <= start for start in budget.starts for t in Sampler().timesteps)
        return int(n * steps * (1 + len(halfway.LABELS)))  # two branches under f, one under null
    return round(by_name[name])


def _training(name: str, budget: Any, size: Size) -> int:
    kinds: dict[str, int] = {"auxiliary": 2, "inversion": len(inversion.STARTS), "lora": len(lora.RANKS) + 1}
    variants = kinds.get(name, 1) * len(budget.lrs)
    shown = budget.n * len(budget.points)
    made = {"auxiliary": size.retained, "reversal": size.retained + 2}.get(name, 0) * getattr(budget, "made", 0)
    batch = 2 * max(1, budget.batch // 2) if name == "reversal" else budget.batch
    return int(variants * (3 * budget.steps * batch + shown * IMAGE) + (made + KEPT * size.retained) * IMAGE)


def _measuring(name: str, budget: Any, size: Size) -> int:
    images = size.seen + size.unseen
    passes: dict[str, int] = {
        "null-likelihood": images * (size.retained + 2) + null_likelihood.MOST,
        "membership": images * (size.retained + 2),
        "edit-depth": images + depth.EACH * size.retained,
    }
    return passes[name] * int(budget.levels) * int(budget.draws)
