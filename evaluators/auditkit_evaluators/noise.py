"""The direct noise test: are the pixels independent and identically distributed, or do the images hold any structure at all?

It asks no classifier. Each image's statistics (structure.py) are compared with those of the same pixels scattered, so it holds
for noise of any distribution; "as visible as 3 % of a real image" is where real images on the ladder
sqrt(a) real + sqrt(1 - a) N(0, 1) stand out as far. Structure is not yet an object: blurred noise is flagged, and rightly.
What it cannot see: structure in the pixels' contrast alone, and anything no statistic here measures.
"""

import numpy as np
from scipy.stats import norm
from torch import Tensor

from auditkit.results import Measure, Record
from auditkit_evaluators.clamped import normal, saturated
from auditkit_evaluators.reference import EQUIVALENT, MIN_SET, Reference, equivalent, fit
from auditkit_evaluators.stats import mean_measure, rate
from auditkit_evaluators.structure import flat, mean_image, names, null_statistics, statistics
from auditkit_evaluators.votes import Bools, Floats, check_images

__all__ = ["LEVEL", "Reference", "Structure", "compare", "fit", "flags", "test"]

LEVEL = 0.01  # false alarms per image of noise
FLAGGED, SET_P = "images with structure", "set p"


class Structure(Record):
    """What the noise test found in `n` images; `reason` says why `p`, `equivalent` or `statistics` were not measured.

    `flagged` is the share of images with structure, of which noise has LEVEL; `p` that of the whole set, against independent
    pixels; `equivalent` the a in 0..1 at which real images stand out of noise as far as these do, 0 in its interval for noise.
    """

    n: int
    flagged: Measure
    p: float | None
    equivalent: Measure
    statistics: tuple[Measure, ...]
    saturated: Measure
    sigma: Measure
    gaussian: Measure
    reason: str | None = None


def test(images: Tensor, reference: Reference, *, seed: int = 0) -> Structure:  # noqa: PT028 - it tests images; it is not a pytest test
    """Test uint8 `images` (B, C, H, W) for structure. What cannot be tested (no images, another shape, one flat colour) has a reason.

    Images that are all one flat colour hold no pixels to scatter. They are flagged, since noise varies, and have no p.

    Raises:
        ValueError: the images are not uint8 (B, C, H, W).
    """
    images = check_images(images)
    n, reason = len(images), _reason(images, reference)
    found: tuple[Measure, ...] = ()
    sigma, gaussian = normal(images)
    if reason is not None:
        alike = n > 0 and flat(images)
        nothing = Measure(name=FLAGGED, value=None, n=n, note=reason)
        flagged = rate(FLAGGED, n, n, safer="lower").model_copy(update={"note": reason}) if alike else nothing
        p = None
        worth = Measure(name=EQUIVALENT, value=None, n=n, unit="a", note=reason)
    else:
        values, null = statistics(images, reference.components), null_statistics(images, reference.components, seed)
        z = _standard(values, null)
        k = int(_flagged(z, _standard(null, null)).sum())
        flagged = rate(FLAGGED, k, n, safer="lower").model_copy(update={"note": f"noise has {LEVEL:.0%}"})
        p, reason = _set_p(images, z, len(null))
        worth = equivalent((values - null.mean(axis=0)) / reference.scale, len(null), reference)
        found = _means(images, values, null)
    return Structure(
        n=n,
        flagged=flagged,
        p=p,
        equivalent=worth,
        statistics=found,
        saturated=saturated(images),
        sigma=sigma,
        gaussian=gaussian,
        reason=reason,
    )


def compare(images: Tensor, reference: Reference, *, seed: int = 0) -> list[Measure]:
    """`test` as one flat list of measures. Raises what it raises."""
    found = test(images, reference, seed=seed)
    p = Measure(name=SET_P, value=found.p, n=found.n, unit="p", safer="higher", note=found.reason)
    return [found.flagged, p, found.equivalent, *found.statistics, found.saturated, found.sigma, found.gaussian]


def flags(images: Tensor, reference: Reference, *, seed: int = 0) -> Bools:
    """Which of the uint8 `images` (B, C, H, W) hold structure, (B,), with LEVEL false alarms on noise; (0,) for none.

    Raises:
        ValueError: the images are not uint8 (B, C, H, W), or are not of the reference's shape, or the reference is empty.
    """
    images = check_images(images)
    reason = _reason(images, reference)
    if len(images) and flat(images):
        return np.ones(len(images), dtype=np.bool_)
    if len(images) == 0:
        return np.zeros(0, dtype=np.bool_)
    if reason is not None:
        raise ValueError(f"images cannot be tested for structure: {reason}")
    null = null_statistics(images, reference.components, seed)
    return _flagged(_standard(statistics(images, reference.components), null), _standard(null, null))


def _reason(images: Tensor, reference: Reference) -> str | None:
    """Why the images cannot be tested."""
    if len(images) == 0:
        return "no images"
    if flat(images):
        return "all images are one flat colour: nothing to scatter, and no noise"
    if tuple(images.shape[1:]) != reference.shape:
        return f"images are {tuple(images.shape[1:])}, the reference is {reference.shape}"
    return reference.reason


def _standard(values: Floats, null: Floats) -> Floats:
    """`values` (B, K) in deviations of `null` (M, K) from its mean; 0 where it cannot vary, as between channels of which one is alive."""
    off, deviation = values - null.mean(axis=0), null.std(axis=0)
    return np.asarray(np.divide(off, deviation, out=np.zeros_like(off), where=deviation > 0))


def _flagged(z: Floats, null: Floats) -> Bools:
    """Monte-Carlo p of the largest |z| of each image (B, K) among noise (M, K), at LEVEL; ties count as noise."""
    ordered = np.sort(np.abs(null).max(axis=1))
    above = len(ordered) - np.searchsorted(ordered, np.abs(z).max(axis=1), side="left")
    return np.asarray((1 + above) / (1 + len(ordered)) <= LEVEL)


def _set_p(images: Tensor, z: Floats, m: int) -> tuple[float | None, str | None]:
    """The smallest p over the mean of each statistic and the mean image, times their number (Bonferroni); or why there is none."""
    n, k = z.shape
    if n < MIN_SET:
        return None, f"a set test needs {MIN_SET} images, there are {n}"
    largest = float(np.abs(z.mean(axis=0)).max()) / np.sqrt(1 / n + 1 / m)
    return min(1.0, (k + 1) * min(2 * float(norm.sf(largest)), mean_image(images)[1])), None


def _means(images: Tensor, values: Floats, null: Floats) -> tuple[Measure, ...]:
    """The mean of each statistic beside that of noise, and the mean image."""
    found = [
        mean_measure(name, values[:, i], unit="of the energy").model_copy(update={"note": f"noise {null[:, i].mean():.4f}"})
        for i, name in enumerate(names(images.shape[1]))
        if len(images) > 1
    ]
    ratio = None if len(images) < 2 else mean_image(images)
    note = "one image has no mean image" if ratio is None else f"noise 1, p = {ratio[1]:.2g}"
    return (*found, Measure(name="mean image", value=ratio and ratio[0], n=len(images), unit="times noise", note=note))
