"""In which precision a network runs: float32 for small ones, bfloat16 with channels last for large ones where the hardware multiplies it.

Weights, sampler state and loss stay in float32. The 38.6 M-parameter UNet of the CIFAR-10 papers, 16 images on two cores with AMX: forward
and backward 2.8 s in float32, 1.1 s so; the bundled digits model (68,337 parameters) gains nothing and keeps its bytes.
"""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

LARGE = 5_000_000  # parameters


def half(net: nn.Module) -> bool:
    """Whether `net` runs in bfloat16 where it is: large, on a GPU since Ampere or a CPU that multiplies bfloat16 (AMX or AVX-512)."""
    if sum(p.numel() for p in net.parameters()) < LARGE:
        return False
    if next(net.parameters()).device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def cast(net: nn.Module) -> AbstractContextManager[Any]:
    """Inside it `net` is evaluated in the precision that `half` chose."""
    if not half(net):
        return contextlib.nullcontext()
    return torch.autocast(next(net.parameters()).device.type, torch.bfloat16)


def laid_out(net: nn.Module) -> nn.Module:
    """The same network, its weights in channels-last order where it runs in bfloat16; in place."""
    return net.to(memory_format=torch.channels_last) if half(net) else net
