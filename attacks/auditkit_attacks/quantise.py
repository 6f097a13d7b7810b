"""Round the weights. Threat model: the attacker has the weights and stores them in fewer bits (tier T1).

An edit smaller than half a bucket is undone by rounding: Q(w_u) = Q(w_0). Symmetric, per output channel, to nearest; and the 16-bit floats
that everybody uses.

Source: https://arxiv.org/abs/2410.16454, where 4 bits bring a forgotten language model's knowledge back from 21 % to 83 %.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from auditkit_attacks.grid import Budget as Budget
from auditkit_attacks.grid import Draw, chooses
from auditkit_attacks.target import Target

TIER = "weights"
BITS = (8, 6, 5, 4, 3)  # with 2 a network of 68,337 numbers generates nothing, which a judge may call anything


def rounded(w: Tensor, bits: int) -> Tensor:
    """`w` on a symmetric grid of 2^bits - 1 values for each output channel (the first dimension)."""
    levels = 2 ** (bits - 1) - 1
    scale = w.abs().flatten(1).amax(1) if w.dim() > 1 else w.abs().amax(0, keepdim=True).expand(len(w))
    scale = (scale / levels).clamp_min(torch.finfo(w.dtype).tiny).view(-1, *[1] * (w.dim() - 1))
    grid: Tensor = (w / scale).round().clamp(-levels, levels) * scale
    return grid


def settings(target: Target) -> Mapping[str, Draw]:
    """The class by the rounded network."""

    def to(bits: int) -> Draw:
        return _with(target, lambda w: rounded(w, bits))

    found = {f"{bits} bit": to(bits) for bits in BITS}
    return found | {str(kind).removeprefix("torch."): _with(target, _cast(kind)) for kind in (torch.bfloat16, torch.float16)}


def _cast(kind: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda w: w.to(kind).to(w.dtype)


def _with(target: Target, change: Callable[[Tensor], Tensor]) -> Draw:
    def draw(n: int, seed: int) -> Tensor:
        if target.network is None or target.render is None:
            raise ValueError("quantise needs target.network and target.render, and this target gives none")
        model = target.network()
        with torch.no_grad():
            for p in model.net.parameters():
                p.copy_(change(p))
        return target.render(model, target.asked, n, seed)

    return draw


run = chooses(settings)
