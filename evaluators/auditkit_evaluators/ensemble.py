"""Six closed-set judges of five families, fitted on the `judges` split in a few seconds.

They do not vote together: on noise they fail together, each into a sink class of its own, and a majority hides that.
Two of them, cnn-a and cnn-b, differ in the seed alone, to show how far a sink moves with it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor

from auditkit.data import Dataset
from auditkit.errors import UserError
from auditkit_evaluators import cnn, temperature
from auditkit_evaluators.votes import Floats, Judge, Votes, check_images

Scores = Callable[[Tensor], tuple[Floats, Floats | None]]  # uint8 images to logits (B, K) and features (B, D)
Fit = Callable[[Tensor, Tensor, int, int], Scores]  # images, labels, K, seed

# Vote shares of 0 have no logarithm: a k-NN of 5 that is wrong once would ask for an infinite temperature.
SMOOTHING = 0.01


def build(data: Dataset, *, seed: int = 0) -> tuple[Judge, ...]:
    """The six judges: fitted on the `judges` split of `data`, temperature on its `calibration` split.

    The same data and seed give the same judges.

    Raises:
        UserError: a class has no image in the `judges` split, or the images are smaller than 8 x 8.
    """
    images, labels = data.part("judges")
    missing = [name for k, name in enumerate(data.classes) if not bool((labels == k).any())]
    if missing:
        raise UserError(f"judges need images of every class, {data.name} has none of {', '.join(missing)} in its judges split")
    if min(images.shape[-2:]) < 8:
        raise UserError(f"judges need images of at least 8 x 8 pixels, {data.name} has {images.shape[-2]} x {images.shape[-1]}")
    return tuple(_member(name, family, fit, data, seed) for name, (family, fit) in MEMBERS.items())


def _member(name: str, family: str, fit: Fit, data: Dataset, seed: int) -> Judge:
    images, labels = data.part("judges")
    shape = tuple(images.shape[1:])
    scores = fit(images, labels, len(data.classes), seed)
    held, truth = data.part("calibration")
    t = temperature.fit(scores(held)[0], truth.numpy())

    def judge(batch: Tensor) -> Votes:
        batch = check_images(batch, shape)
        if len(batch) == 0:
            return Votes(probs=np.zeros((0, len(data.classes))))
        logits, features = scores(batch)
        return Votes(probs=temperature.probabilities(logits, t), features=features)

    return Judge(name=name, family=family, judge=judge, temperature=t, fitted_on=f"{data.name}/judges ({len(labels)} images)")


def _classic(make: Callable[[int], Any]) -> Fit:
    """A scikit-learn classifier on flat pixels in [0, 1]; logits are decision values, or log vote shares where it has none."""

    def fit(images: Tensor, labels: Tensor, classes: int, seed: int) -> Scores:
        model = make(seed).fit(_flat(images), labels.numpy())

        def scores(batch: Tensor) -> tuple[Floats, Floats | None]:
            if not hasattr(model, "decision_function"):
                return np.log((1 - SMOOTHING) * model.predict_proba(_flat(batch)) + SMOOTHING / classes), None
            values = np.asarray(model.decision_function(_flat(batch)), dtype=np.float64)
            # With two classes scikit-learn returns one column: the log-odds of the second.
            return (np.stack([np.zeros_like(values), values], axis=1) if values.ndim == 1 else values), None

        return scores

    return fit


def _cnn(offset: int) -> Fit:
    def fit(images: Tensor, labels: Tensor, classes: int, seed: int) -> Scores:
        network = cnn.fit(images, labels, classes, 2 * seed + offset)

        def scores(batch: Tensor) -> tuple[Floats, Floats | None]:
            logits, features = network(batch)
            return _double(logits), _double(features)

        return scores

    return fit


def _flat(images: Tensor) -> Floats:
    return _double(images.flatten(1)) / 255


def _double(x: Tensor) -> Floats:
    return np.asarray(x.to(torch.float64).numpy())


MEMBERS: dict[str, tuple[str, Fit]] = {
    "svc": ("kernel", _classic(lambda seed: SVC(C=10.0, random_state=seed))),
    "knn": ("neighbours", _classic(lambda seed: KNeighborsClassifier(n_neighbors=5, weights="distance"))),
    "forest": ("trees", _classic(lambda seed: RandomForestClassifier(n_estimators=200, random_state=seed))),
    "logistic": ("linear", _classic(lambda seed: LogisticRegression(max_iter=2000, random_state=seed))),
    "cnn-a": ("convolution", _cnn(0)),
    "cnn-b": ("convolution", _cnn(1)),
}
