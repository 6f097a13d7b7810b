"""Matched noise: what a judge would see if nothing but the pixels' values were left of the audited images.

This is the first form of design.md 4. The two others (the same sampler with eps = 0 and with eps = -w eps_null) need the
sampler; the core makes them and hands them in as images.
"""

import numpy as np
import torch
from torch import Tensor

from auditkit_evaluators.votes import check_images

KEY = 0x6E6F6973  # keeps these draws apart from other users of the same seed


def matched(images: Tensor, n: int, seed: int) -> Tensor:
    """`n` noise images, uint8 (n, C, H, W): every pixel drawn independently from the pixels of its channel in `images`.

    It keeps each channel's histogram and destroys all structure, also that between channels. N(0, 1) would be the wrong
    noise: unlearned models saturate 89-99 % of their pixels, and judges call such noise something else. Image i depends
    on `images`, the seed and i, not on n.

    Raises:
        ValueError: no images to match, or n < 1.
    """
    images = check_images(images)
    if n < 1 or len(images) == 0:
        raise ValueError(f"expected n >= 1 and at least one image to match, found n = {n} and {len(images)} images")
    channels, height, width = images.shape[1:]
    pixels = images.transpose(0, 1).reshape(channels, -1).numpy()
    uniform = np.random.default_rng([seed, KEY]).random((n, channels, height, width))
    drawn = [pixels[c, (uniform[:, c] * pixels.shape[1]).astype(np.int64)] for c in range(channels)]
    return torch.from_numpy(np.stack(drawn, axis=1))
