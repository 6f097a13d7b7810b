"""In which precision a network runs: float32 for small ones, bfloat16 with channels last for large ones where the hardware multiplies it.

Weights, sampler state and loss stay in float32. The 38.6 M-parameter UNet of the CIFAR-10 papers, 16 images on two cores with AMX: forward
and backward 2.8 s in float32, 1.1 s so; the bundled digits model (68,337 parameters) gains nothing and keeps its bytes.
"""

import contextlib
import weakref
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

LARGE = 5_000_000  # parameters

# A GPU's convolutions keep 10 of 23 bits of float32 unless told otherwise, and their gradients are summed in any order: a run's record
# would say float32, an image would depend on its batch, and a training that goes on after an interruption would end elsewhere.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.deterministic = True

# Counting takes 1.2 ms for the digits network, 4 % of a forward pass of 200 images, and is asked before each.
_counted: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def half(net: nn.Module) -> bool:
    """Whether `net` runs in bfloat16 where it is: large, on a GPU since Ampere or a CPU that multiplies bfloat16 (AMX or AVX-512)."""
    if net not in _counted:
        _counted[net] = sum(p.numel() for p in net.parameters())
    if _counted[net] < LARGE:
        return False
    if next(net.parameters()).device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def name(net: nn.Module) -> str:
    """What `half` chose, for the record of a run: the same request gives other bits on hardware that multiplies bfloat16."""
    return "bfloat16" if half(net) else "float32"


def cast(net: nn.Module) -> AbstractContextManager[Any]:
    """Inside it `net` is evaluated in the precision that `half` chose."""
    if not half(net):
        return contextlib.nullcontext()
    return torch.autocast(next(net.parameters()).device.type, torch.bfloat16)


def laid_out(net: nn.Module) -> nn.Module:
    """The same network, its weights in channels-last order where it runs in bfloat16; in place."""
    return net.to(memory_format=torch.channels_last) if half(net) else net
