"""Precision, recall, density and coverage, plain and clipped: which images lie in the k-nearest-neighbour balls of others.

With r_i the distance of real image i from its k-th nearest real image, B_i = B(real_i, r_i) and s_j the same among the N generated:
    precision         share of generated images in at least one B_i                              Kynkaanniemi 2019, arXiv 1904.06991
    recall            share of real images in at least one B(generated_j, s_j)
    density           mean over generated images of the number of B_i that hold them, / k         Naeem 2020, arXiv 2002.09797
    coverage          share of real images whose B_i holds a generated image
    clipped density   with R_i = min(r_i, median r): mean of min(1, number of B(real_i, R_i) / k),  Salvy 2025, arXiv 2507.01761
                      over the same mean for the real images, each left out of its own ball; at most 1
    clipped coverage  share c of good images among N for which the expected mean of min(1, number of generated images in B_i / k)
                      is the one measured: that number is beta-binomial(cN, k, M - k) for cN images of the real distribution
Every ball holds its edge: Naeem's own "<" gives constant features 0. Salvy's code takes the next whole cN, here it is interpolated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaln, gammaln

from auditkit_evaluators.neighbours import Rows, inside, nearest
from auditkit_evaluators.votes import Floats


@dataclass(frozen=True)
class Share:
    """One measure before its mean is taken: `values` per image, `of` "generated" or "real" ones; `finish` the mean's last step."""

    values: Floats
    of: Literal["generated", "real"]
    finish: Callable[[float], float] = float

    @property
    def value(self) -> float:
        return self.finish(float(self.values.mean()))


def manifold(features: Rows, reference: Rows, k: int) -> dict[str, Share]:
    """The six measures of generated `features` (N, D) against real `reference` (M, D), both with more than k rows.

    Raises:
        ValueError: too few rows, NaN, or rows of different length.
    """
    real = nearest(reference, reference, k, exclude_self=True)[0][:, -1]
    fake = nearest(features, features, k, exclude_self=True)[0][:, -1]
    near = nearest(reference, features, k)[0]  # (M, k): more than the k nearest never count
    held = inside(features, reference, real)
    clipped = np.minimum(real, np.median(real))
    best = np.minimum(inside(reference, reference, clipped, exclude_self=True) / k, 1).mean()  # > 0: half of the r_i are R_i
    covered = near <= real[:, None]  # both from differences: the copy of a neighbour lies at exactly its distance
    expected = expected_cover(len(features), len(reference), k)
    share = np.linspace(0, 1, len(expected))
    return {
        "precision": Share((held > 0).astype(float), "generated"),
        "recall": Share((inside(reference, features, fake) > 0).astype(float), "real"),
        "density": Share(held / k, "generated"),
        "coverage": Share(covered[:, 0].astype(float), "real"),
        "clipped density": Share(np.minimum(inside(features, reference, clipped) / k, 1), "generated", lambda x: min(1.0, x / best)),
        "clipped coverage": Share(covered.mean(axis=1), "real", lambda x: float(np.interp(x, expected, share))),
    }


def expected_cover(n: int, m: int, k: int) -> Floats:
    """The expected mean of min(1, generated images in B_i / k) when 0, 1, ..., `n` of them are drawn like the `m` real ones: (n + 1,).

    A ball that reaches to the k-th of m - 1 others holds a share Beta(k, m - k) of the distribution, whatever the distribution.
    """
    drawn, t = np.arange(n + 1)[:, None], np.arange(k)[None, :]
    rest = np.maximum(drawn - t, 0)
    log = gammaln(drawn + 1) - gammaln(t + 1) - gammaln(rest + 1) + betaln(k + t, m - k + rest) - betaln(k, m - k)
    return np.asarray(1 - (np.where(t <= drawn, np.exp(log), 0) * (k - t)).sum(axis=1) / k)
