"""One temperature per judge: softmax(logits / T), with the T that makes the calibration split most likely.

Guo et al., "On calibration of modern neural networks" (2017), https://arxiv.org/abs/1706.04599. It changes H and never the
vote. No judge is calibrated on noise by this: H on noise is a property of the judge, which is why cards report it.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from auditkit_evaluators.votes import Floats

# A judge without one calibration error has no finite optimum: NLL falls for ever as T -> 0.
RANGE = (0.01, 100.0)


def probabilities(logits: Floats, temperature: float) -> Floats:
    """softmax(logits / temperature), rows (B, K) in float64."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def fit(logits: Floats, labels: np.ndarray) -> float:
    """The temperature in RANGE of least mean negative log-likelihood of `labels` (B,) under `logits` (B, K).

    Raises:
        ValueError: there is no image to calibrate on.
    """
    if len(labels) == 0:
        raise ValueError("expected a calibration split with images, found none")
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / math.exp(log_t), axis=1)[rows, labels].mean())

    # NLL is convex in 1/T, so it has one minimum in log T as well.
    found = minimize_scalar(loss, bounds=(math.log(RANGE[0]), math.log(RANGE[1])), method="bounded")
    return math.exp(float(found.x))
