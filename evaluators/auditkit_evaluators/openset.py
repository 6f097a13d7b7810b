"""The answer "no class": features compared with those of real images, by LOF, Mahalanobis and k-NN together.

Three scores, because they fail on different noise (on CIFAR-10 features each flags between 30 and 100 % of N(0, .1)), and
turned into one conformal p-value, because "strange" needs a false alarm that is known: 5 % of real images are refused. Softmax,
energy and entropy are left out: they flag 0 to 100 % of noise, depending on the network.

Refused is not forgotten: plainly visible classes under mild noise are refused as well (docs/verdict.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from auditkit_evaluators.votes import Bools, Floats

REFUSED = 0.05  # of real images: the price of an answer "no class"
LOF_K, NEAR_K = 20, 10
NEEDED = 2 * LOF_K  # images in the bank: fewer have no neighbourhood to speak of


@dataclass(frozen=True)
class OpenSet:
    """Scores of features against a bank of real ones, and the scores of real calibration images, sorted by column.

    `whiten` (D, D) makes the Mahalanobis distance a plain one, between features and class `means` multiplied by it.
    """

    lof: Any
    near: Any
    means: Floats
    whiten: Floats
    calibration: Floats
    threshold: float

    def scores(self, features: Floats) -> Floats:
        """LOF, Mahalanobis distance to the nearest class mean, and distance to the 10th neighbour: (B, 3), higher is stranger."""
        unit = _unit(features)
        tied = cdist(features @ self.whiten, self.means, "sqeuclidean").min(axis=1)
        return np.stack([-self.lof.score_samples(unit), tied, self.near.kneighbors(unit)[0][:, -1]], axis=1)

    def p_values(self, features: Floats) -> Floats:
        """(B,) conformal: the share of real calibration images at least as strange by their strangest score."""
        return (1 + np.searchsorted(self.calibration[:, 3], self._strangest(features), side="right")) / (len(self.calibration) + 1)

    def abstain(self, features: Floats) -> Bools:
        """(B,) True where an image is stranger than all but 5 % of real calibration images."""
        if len(features) == 0:
            return np.zeros(0, dtype=np.bool_)
        return np.asarray(self._strangest(features) <= self.threshold)

    def _strangest(self, features: Floats) -> Floats:
        return _smallest(self.scores(features), self.calibration[:, :3])


def fit(bank: Floats, labels: np.ndarray, held: Floats) -> OpenSet | None:
    """Fitted on the features `bank` (N, D) with `labels` (N,), calibrated on those of other real images, `held` (M, D).

    None where the bank has fewer than 40 images, no spread, or there are fewer than 20 to calibrate on: such a judge cannot abstain.
    """
    if len(bank) < NEEDED or len(held) < 1 / REFUSED or not float(np.ptp(bank, axis=0).max(initial=0)):
        return None
    unit = _unit(bank)
    which = np.searchsorted(np.unique(labels), labels)
    means = np.stack([bank[labels == k].mean(axis=0) for k in np.unique(labels)])
    size, axes = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(bank - means[which]).precision_)
    whiten = axes * np.sqrt(size.clip(min=0))  # of a class without variation it is 0, which has no Cholesky factor
    half = OpenSet(
        lof=LocalOutlierFactor(n_neighbors=LOF_K, novelty=True).fit(unit),
        near=NearestNeighbors(n_neighbors=NEAR_K).fit(unit),
        means=means @ whiten,
        whiten=whiten,
        calibration=np.zeros((0, 4)),
        threshold=0.0,
    )
    scores = half.scores(held)
    columns = np.sort(scores, axis=0)
    own = np.sort(_smallest(scores, columns))
    # The largest threshold that refuses at most 5 % of the calibration images themselves.
    allowed = int(REFUSED * len(own))
    below = own[own < own[allowed]]
    threshold = float(below[-1]) if len(below) else 0.0
    return OpenSet(half.lof, half.near, half.means, half.whiten, np.column_stack([columns, own]), threshold)


def _smallest(scores: Floats, calibration: Floats) -> Floats:
    """For each row the smallest share of calibration images with at least its score, over the three scores: (B,)."""
    n = len(calibration)
    above = [n - np.searchsorted(calibration[:, c], scores[:, c], side="left") for c in range(scores.shape[1])]
    return np.asarray(np.min(above, axis=0) / n)


def _unit(features: Floats) -> Floats:
    """Rows of length 1, so that the distance is that of their angle; a row of zeros stays."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1))
