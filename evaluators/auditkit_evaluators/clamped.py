"""The normal distribution behind 8-bit pixels: what 0 and 255 hold is censored, everything else rounded.

Pixel v stands for the interval [v - .5, v + .5] / 127.5 - 1 in model units; 0 and 255 reach to infinity. Kolmogorov-Smirnov and
Shapiro reject true clamped N(0, 1) noise in every image; a fit of these 256 probabilities recovers sigma to three digits.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2, norm
from torch import Tensor

from auditkit.results import Measure
from auditkit_evaluators.stats import rate
from auditkit_evaluators.votes import Floats, check_images

EDGES = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
SATURATED = 0.5  # above it a few levels near the middle decide on sigma
Z = float(norm.isf(0.025))
SIGMA, GAUSSIAN = "sigma of a clamped normal", "chi-square p of a clamped normal"


def saturated(images: Tensor) -> Measure:
    """The share of pixel values of `images` (B, C, H, W) at 0 or 255; n counts values, not images."""
    counts = _counts(images)
    return rate("saturated pixels", int(counts[0] + counts[255]), int(counts.sum()))


def normal(images: Tensor) -> tuple[Measure, Measure]:
    """Sigma in model units by maximum likelihood, and the chi-square p of that fit; all channels and images in one histogram.

    The interval counts pixels as independent. Not measured: no images, one value alone, or more than half saturated.
    With many pixels the p rejects harmless deviations; it is an attribute of the noise, not a test of structure.

    Raises:
        ValueError: the images are not uint8 (B, C, H, W).
    """
    counts = _counts(images)
    n, reason = int(counts.sum()), None
    if n == 0:
        reason = "no images"
    elif (counts > 0).sum() < 3:
        reason = f"{(counts > 0).sum()} different pixel values do not determine a normal distribution"
    elif (counts[0] + counts[255]) / n > SATURATED:
        reason = f"saturated: {100 * (counts[0] + counts[255]) / n:.0f} % of the pixels are 0 or 255"
    if reason is not None:
        sigma = Measure(name=SIGMA, value=None, n=n, unit="model units", note=reason)
        return sigma, Measure(name=GAUSSIAN, value=None, n=n, unit="p", note=reason)
    mu, sd, error = _fit(counts)
    sigma = Measure(name=SIGMA, value=sd, n=n, low=max(0.0, sd - Z * error), high=sd + Z * error, unit="model units", note=f"mean {mu:.3f}")
    return sigma, _chi_square(counts, _probabilities(mu, sd))


def _counts(images: Tensor) -> Floats:
    return np.bincount(check_images(images).flatten().numpy(), minlength=256).astype(np.float64)


def _probabilities(mu: float, sd: float) -> Floats:
    """Of the 256 values. Differences of the smaller tail: 1 - 1e-20 is 1, and its logarithm would lose the far pixels."""
    z = (EDGES - mu) / sd
    upper = z[:-1] > 0
    p = np.where(upper, norm.sf(z[:-1]) - norm.sf(z[1:]), norm.cdf(z[1:]) - norm.cdf(z[:-1]))
    return np.asarray(np.maximum(p, 1e-300))


def _fit(counts: Floats) -> tuple[float, float, float]:
    """Mean, deviation, and the standard error of the deviation by the Fisher information of the 256 probabilities."""
    values, n = np.arange(256) / 127.5 - 1, counts.sum()
    mu = float(counts @ values / n)
    sd = float(np.sqrt(counts @ (values - mu) ** 2 / n))
    found = minimize(lambda t: -(counts @ np.log(_probabilities(t[0], np.exp(t[1])))) / n, (mu, np.log(sd)), method="Nelder-Mead", tol=1e-9)
    mu, log_sd = (float(t) for t in found.x)
    step = 1e-4
    slopes = [
        (_probabilities(mu + step, np.exp(log_sd)) - _probabilities(mu - step, np.exp(log_sd))) / (2 * step),
        (_probabilities(mu, np.exp(log_sd + step)) - _probabilities(mu, np.exp(log_sd - step))) / (2 * step),
    ]
    p = _probabilities(mu, np.exp(log_sd))
    information = n * np.array([[(a * b / p)[p > 1e-12].sum() for b in slopes] for a in slopes])
    sd = float(np.exp(log_sd))
    return mu, sd, sd * float(np.sqrt(np.linalg.pinv(information)[1, 1]))


def _chi_square(counts: Floats, p: Floats) -> Measure:
    """Values are joined from below until five are expected."""
    n = int(counts.sum())
    groups = np.cumsum(n * p) // 5
    _, first = np.unique(groups, return_index=True)
    observed, expected = np.add.reduceat(counts, first), np.add.reduceat(n * p, first)
    if expected[-1] < 5 and len(expected) > 1:
        observed, expected = (np.append(x[:-2], x[-2] + x[-1]) for x in (observed, expected))
    freedom = len(observed) - 3
    if freedom < 1:
        return Measure(name=GAUSSIAN, value=None, n=n, unit="p", note=f"{len(observed)} groups of values are too few")
    statistic = float(((observed - expected) ** 2 / expected).sum())
    note = f"chi-square {statistic:.1f}, {freedom} degrees of freedom"
    return Measure(name=GAUSSIAN, value=float(chi2.sf(statistic, freedom)), n=n, unit="p", note=note)
