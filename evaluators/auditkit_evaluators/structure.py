"""Statistics of structure: per image, what independent pixels cannot show; and the same statistics of the very same pixels, scattered.

    neighbours     correlation with the right and the lower neighbour
    low frequency  share of the energy in the cosine coefficients below a quarter of the highest frequency, the mean included
    components     share of the energy in the directions of real images, weighted by the deviation of real images along each
    channels       correlation between channels at one place (colour images alone): channel-tied noise is structure

Each is divided by the image's own energy, so that contrast does not matter. A statistic is read against noise of the same
histogram: real outputs are clamped, rounded and mostly saturated, and so is their noise then.
"""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.stats import chi2
from torch import Tensor

from auditkit_evaluators.votes import Floats

KEY = 0x73636174  # keeps these draws apart from other users of the same seed
N_NULL = 2000  # noise images at least: one in a hundred is then known to .0022
LOW = 0.25
CHUNK = 500


def names(channels: int) -> tuple[str, ...]:
    """The statistics of images with so many channels."""
    return ("neighbours", "low frequency", "components", *(("channels",) if channels > 1 else ()))


def statistics(images: Tensor, components: Floats) -> Floats:
    """The statistics of uint8 `images` (B, C, H, W), shape (B, K) in the order of `names`; `components` (k, C*H*W) from `fit`.

    Pixels are centred and scaled per channel by the mean and deviation of all images. An image that is flat has value 1.
    """
    centre, scale, _ = moments(images)
    parts = [_chunk((part.double().numpy() - centre) / scale, components) for part in torch.split(images, CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, len(names(images.shape[1]))))


def null_statistics(images: Tensor, components: Floats, seed: int) -> Floats:
    """The statistics of noise with the same histogram per channel, shape (M, K), M >= N_NULL and M >= B: `images` (B, C, H, W), scattered.

    The pixels of all images are permuted within their channel: independent and identically distributed pixels, as many of each
    value as in `images`. So the per-image test is exact, for one image too.
    """
    return np.concatenate([statistics(scattered, components) for scattered in _scattered(images, seed)])


def moments(images: Tensor) -> tuple[Floats, Floats, Floats]:
    """Mean, deviation and excess kurtosis of the pixels of each channel, (C, 1, 1) each. A flat channel: deviation 1, kurtosis 0."""
    counts = np.stack([np.bincount(images[:, c].flatten().numpy(), minlength=256) for c in range(images.shape[1])])
    share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256.0)
    centre = share @ values
    off = values - centre[:, None]
    variance, fourth = (share * off**2).sum(axis=1), (share * off**4).sum(axis=1)
    flat = (counts > 0).sum(axis=1) == 1
    variance[flat], fourth[flat] = 1.0, 3.0
    kurtosis = fourth / variance**2 - 3
    return centre[:, None, None], np.sqrt(variance)[:, None, None], kurtosis[:, None, None]


def fit_components(images: Tensor, k: int) -> Floats:
    """The first k principal directions of real uint8 `images` (B, C, H, W) about their channel means, (k, C*H*W).

    Row j is sqrt(s_j / s_1) times a unit vector, s_j the deviation of real images along it. Weights, not a number of
    components: at 1 % false alarms they see .96 of digits at a = .5 (5, 10, 20 unweighted: .87, .87, .75) and .87 of CIFAR-10
    at a = .1 (.84, .86, .85), and their effect on a set is larger by a quarter to a half.

    A singular vector has no sign of its own: here its largest number is positive, the first of equals.
    """
    centre, scale, _ = moments(images)
    x = ((images.double().numpy() - centre) / scale).reshape(len(images), -1)
    _, deviations, directions = np.linalg.svd(x, full_matrices=False)
    first = directions[:k]
    largest = np.take_along_axis(first, np.abs(first).argmax(axis=1)[:, None], axis=1)
    return np.asarray(first * np.sign(largest) * np.sqrt(deviations[:k] / deviations[0])[:, None])


def flat(images: Tensor) -> bool:
    """Whether each channel holds one value in all images, so that there is nothing to scatter."""
    return bool((images.amax(dim=(0, 2, 3)) == images.amin(dim=(0, 2, 3))).all())


def mean_image(images: Tensor) -> tuple[float, float]:
    """How much the mean of the images (B, C, H, W) varies over positions, in multiples of noise (1), and the p-value.

    Under independence B times the sum of its squares has mean C (HW - 1) and variance C HW (2 + kurtosis / B), fitted by a scaled
    chi-square.
    """
    n, (height, width) = len(images), images.shape[2:]
    centre, scale, kurtosis = moments(images)
    z = (images.double().mean(dim=0).numpy() - centre) / scale
    live = int((images.amax(dim=(0, 2, 3)) > images.amin(dim=(0, 2, 3))).sum())
    pixels = height * width
    mean = live * (pixels - 1)
    variance = 2 * mean + pixels * float(kurtosis.sum()) / n
    total = n * float((z**2).sum())
    return total / mean, float(chi2.sf(total * 2 * mean / variance, 2 * mean**2 / variance))


def _scattered(images: Tensor, seed: int) -> Iterator[Tensor]:
    rng = np.random.default_rng([seed, KEY])
    pixels = images.transpose(0, 1).flatten(1).numpy()
    for _ in range(math.ceil(N_NULL / len(images))):
        permuted = np.stack([rng.permutation(channel) for channel in pixels])
        yield torch.from_numpy(permuted).reshape(images.transpose(0, 1).shape).transpose(0, 1)


def _chunk(x: NDArray[np.float64], components: Floats) -> Floats:
    height, width = x.shape[2:]
    energy = (x**2).sum(axis=(1, 2, 3))
    right = (x[..., 1:] * x[..., :-1]).mean(axis=(1, 2, 3))
    below = (x[:, :, 1:] * x[:, :, :-1]).mean(axis=(1, 2, 3))
    low = np.hypot(np.arange(height)[:, None] / height, np.arange(width) / width) < LOW
    values = [
        (right + below) / 2 * x[0].size,
        (dctn(x, axes=(2, 3), norm="ortho") ** 2)[..., low].sum(axis=(1, 2)),
        ((x.reshape(len(x), -1) @ components.T) ** 2).sum(axis=1),
    ]
    pairs = list(combinations(range(x.shape[1]), 2))
    if pairs:
        values.append(sum((x[:, i] * x[:, j]).mean(axis=(1, 2)) for i, j in pairs) / len(pairs) * x[0].size)
    return np.asarray(np.stack([np.divide(v, energy, out=np.ones_like(energy), where=energy > 0) for v in values], axis=1))
