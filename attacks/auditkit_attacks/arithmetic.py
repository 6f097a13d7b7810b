"""Score arithmetic. Threat model: the attacker owns the sampling loop and sees eps for any label, and never uses the forgotten one
(tier T0+).

With all classes alike in share, the null branch is the mean of the classes: eps_null - g mean_{c != f}(eps_c - eps_null) leads away
from every retained class, to what is left. The exact complement divides by p(f | x), about 1/C early on, so the gain g is capped.
"posterior" weighs the retained classes by how well each explains what the null branch sees at this x.

Source: Concept Arithmetics (https://arxiv.org/abs/2404.13706), in its complement form for labels, which is ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit.sampling import Eps, Sampler
from auditkit_attacks import grid
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target

TIER = "sampler"
GAINS = (0.3, 1.0, 3.0, 9.0)


@dataclass(frozen=True, kw_only=True)
class Budget(grid.Budget):
    """What the attacker may spend; a step costs one evaluation for every retained class and one more."""

    explore: int = 25


Weigh = Callable[[Tensor], Tensor]  # eps_c - eps_null (K, B, C, H, W) to weights (K, B, 1, 1, 1) that sum to 1 over K


def settings(target: Target) -> Mapping[str, Draw]:
    """The complement of the retained classes at each gain, their weights equal or by posterior."""
    kinds: dict[str, Weigh] = {"mean": _equal, "posterior": _posterior}
    return {f"{kind} g={g:g}": _at(target, weigh, g) for kind, weigh in kinds.items() for g in GAINS}


def _at(target: Target, weigh: Weigh, gain: float) -> Draw:
    if target.eps is None or target.draw is None:
        raise ValueError("arithmetic needs target.eps and target.draw, and this target gives none")
    draw, complement = target.draw, _complement(target.eps, target.retained, target.null, weigh, gain)
    return lambda n, seed: draw(complement, n, seed, Sampler(guidance=0))


def _complement(eps: Eps, retained: list[int], null: int, weigh: Weigh, gain: float) -> Eps:
    asked = torch.tensor([null, *retained])

    def combined(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        k = len(asked)
        every = eps(x.repeat(k, 1, 1, 1), t.repeat(k), asked.to(x.device).repeat_interleave(len(x))).reshape(k, *x.shape)
        away = every[1:] - every[0]
        combination: Tensor = every[0] - gain * (weigh(away) * away).sum(0)
        return combination

    return combined


def _equal(away: Tensor) -> Tensor:
    return torch.full_like(away[:, :, :1, :1, :1], 1 / len(away))


def _posterior(away: Tensor) -> Tensor:
    """Softmax of the squared distance from the null branch, in units of its mean over the classes."""
    distance = away.square().mean(dim=(2, 3, 4), keepdim=True)
    return torch.softmax(-distance / distance.mean(0, keepdim=True).clamp_min(1e-12), dim=0)


run = chooses(settings)
