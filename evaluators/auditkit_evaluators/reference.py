"""The reference of the noise test: the directions of real images, and how far a real image stands out of noise on the ladder."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm
from torch import Tensor

from auditkit.results import Measure
from auditkit_evaluators.panel import ladder
from auditkit_evaluators.structure import fit_components, flat, names, null_statistics, statistics
from auditkit_evaluators.votes import Floats, check_images

COMPONENTS = 32
# Directions from one half of the images, the ladder from the other: on its own images a direction promises too much.
MIN_REAL = 2 * COMPONENTS
# Below .03 the effect is proportional to a: it is an energy, and the energy of the real image in sqrt(a) real + noise is a.
GRID = (0.0, 0.03, 0.06, 0.1, 0.17, 0.25, 0.5, 0.75, 1.0)
N_RUNG = 2000
MOST = 4000  # real images that are worth fitting on: of 32 x 32 in colour they take 19 s
DECIMALS = 9  # of what is kept: a unit vector's numbers in float64 differ between versions of numpy and scipy by some 1e-15
VERSION = 2  # of what is fitted, for whoever keeps it: 2 has signs by a rule and nine decimals
# Below it the mean of a skewed statistic is not normal, and scattered images share too few pixels to be independent.
MIN_SET = 20
EQUIVALENT = "as visible as a of a real image"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """For images of `shape` (C, H, W): weighted `components` (k, C*H*W), the deviation of each statistic over noise images,
    `scale` (K,), and its mean excess over noise at each a of GRID in that unit, `effects` (len(GRID), K), with standard `errors`.
    `reason`: why it cannot be used."""

    shape: tuple[int, int, int]
    components: Floats
    scale: Floats
    effects: Floats
    errors: Floats
    reason: str | None = None


def fit(real: Tensor, *, seed: int = 0) -> Reference:
    """The reference from real uint8 images (B, C, H, W), of every class that could be hidden. Too few or flat ones: a `reason`.

    Raises:
        ValueError: `real` is not uint8 (B, C, H, W).
    """
    real = check_images(real)
    channels, height, width = shape = (real.shape[1], real.shape[2], real.shape[3])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(real)))
    first, rest = real[order[: len(real) // 2]], real[order[len(real) // 2 :]]
    reason = None
    if min(height, width) < 4:
        reason = f"images of at least 4 x 4 pixels are needed, these are {height} x {width}"
    elif len(real) < MIN_REAL:
        reason = f"{MIN_REAL} real images are needed as reference, there are {len(real)}"
    elif flat(first):
        reason = "the real images of the reference are all one flat colour"
    if reason is not None:
        none = np.zeros((0, len(names(channels))))
        empty = np.zeros((0, math.prod(shape)))
        return Reference(shape=shape, components=empty, scale=none.sum(axis=0), effects=none, errors=none, reason=reason)
    components = kept(fit_components(first, COMPONENTS))
    many = rest.repeat(math.ceil(N_RUNG / len(rest)), 1, 1, 1)[:N_RUNG]
    noise = ladder(many, 0.0, seed + 1)
    # One scale for the rungs and for what is audited. Estimated anew for each, its own error left 25 % of intervals wrong at a = .6.
    scale = null_statistics(noise, components, seed + 1).std(axis=0)
    rungs = []
    for a in GRID[1:]:
        images = ladder(many, a, seed + 1)
        null = null_statistics(images, components, seed + 1)
        excess = (statistics(images, components) - null.mean(axis=0)) / scale
        # Copies of one real image are not independent.
        rungs.append((excess.mean(axis=0), np.sqrt(excess.var(axis=0) / len(rest[:N_RUNG]) + 1 / len(null))))
    effects, errors = (kept(np.stack([np.zeros(len(scale)), *column])) for column in zip(*rungs, strict=True))
    heights = _heights(effects)
    if heights[-1] < 1 or bool((np.diff(heights) <= 0).any()):
        reason = "the real images of the reference do not stand out of noise"
    return Reference(shape=shape, components=components, scale=kept(scale), effects=effects, errors=errors, reason=reason)


def kept(values: Floats) -> Floats:
    """`values` rounded to DECIMALS places, -0 as 0: what a run seals does not depend on a library's last digits."""
    return np.asarray(np.round(values, DECIMALS) + 0.0)


def equivalent(excess: Floats, m: int, reference: Reference) -> Measure:
    """The a at which the largest effect of any statistic is as large, with what both samples leave open.

    The largest of K has the upper limit of one and the lower limit of all K (Bonferroni).
    """
    n, k = excess.shape
    if n < MIN_SET:
        return Measure(name=EQUIVALENT, value=None, n=n, unit="a", note=f"a mean effect needs {MIN_SET} images, there are {n}")
    size = np.abs(excess.mean(axis=0))
    heights = _heights(reference.effects)
    to_a = PchipInterpolator(heights, GRID)  # monotone; straight lines between the rungs read .6 as .58 (CIFAR-10)
    a = float(to_a(min(size.max(), heights[-1])))
    known = np.array([np.interp(a, GRID, errors) for errors in reference.errors.T])
    error = np.sqrt(excess.var(axis=0, ddof=1) / n + 1 / m + known**2)
    low, high = (size - norm.isf(0.025 / k) * error).max(), (size + norm.isf(0.025) * error).max()
    low, high = (float(to_a(min(max(0.0, x), heights[-1]))) for x in (low, high))
    return Measure(name=EQUIVALENT, value=a, n=n, low=low, high=high, unit="a", safer="lower")


def _heights(effects: Floats) -> Floats:
    """The largest effect of any statistic at each a, made monotone."""
    return np.asarray(np.maximum.accumulate(np.abs(effects).max(axis=1)))
