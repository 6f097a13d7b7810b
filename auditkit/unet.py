"""diffusers' `UNet2DModel`, without the walk over all of its modules that it makes twice in each forward pass to learn its own dtype.

On the digits network that is 1 ms of Python in each pass, whatever the batch: the numbers are the same to the bit.
"""

import functools
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel


class UNet(UNet2DModel):  # type: ignore[misc]
    """A `UNet2DModel` whose weights are all of one dtype, that of its first convolution."""

    @functools.wraps(UNet2DModel.__init__)  # type: ignore[misc]  # diffusers reads the names of the configuration from this signature
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        found: torch.dtype = self.conv_in.weight.dtype
        return found
