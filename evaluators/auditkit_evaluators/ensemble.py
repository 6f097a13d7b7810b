"""Closed-set judges of several families, each with the answer "no class", fitted on the `judges` split: digits in seconds, photographs in
a minute of one core.

They do not vote together: on noise they fail together, each into a sink class of its own, and a majority hides that.
cnn-a and cnn-b differ in the seed alone, to show how far a sink moves with it; they and patches learn photographs under noise as well,
since nobody else reads those. Larger networks join with `weights` (networks.py).
"""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor

from auditkit.data import Dataset
from auditkit.errors import UserError
from auditkit_evaluators import cnn, networks, openset, patches, temperature
from auditkit_evaluators.votes import Floats, Judge, Votes, check_images

Scores = Callable[[Tensor], tuple[Floats, Floats]]  # uint8 images to logits (B, K) and features (B, D)
Fit = Callable[[Tensor, Tensor, int, int], tuple[Scores, str]]  # images, labels, K, seed; the hash of the weights beside

# Vote shares of 0 have no logarithm: a k-NN of 5 that is wrong once would ask for an infinite temperature.
SMOOTHING = 0.01
# Classic judges see larger images pooled to this: on CIFAR-10 their hit rates do not suffer, and noise averages out.
SIDE = 8
PIXELS = "pixels"  # the feature space of the classic judges
OWN_FEATURES = ("convolution", "patches")  # families with a feature space for each judge
PHOTOGRAPHS = ("patches",)  # on 8 x 8 pixels a piece is nearly the whole image, and the other families are able
SVC_IMAGES = 4000  # fitting an SVC is quadratic in the images: 12,000 would take minutes


def build(data: Dataset, *, seed: int = 0, weights: Path | None = None, only: Container[str] | None = None) -> tuple[Judge, ...]:
    """The judges (six, and patches for images of more than 8 x 8 pixels; or those named in `only`), and one for each network in the file or
    folder `weights`: fitted on the `judges` split of `data`, temperature and the threshold of "no class" on its `calibration` split. The
    same data and seed give the same judges.

    Raises:
        UserError: a class has no image in the `judges` split, the images are smaller than 8 x 8, or weights do not fit.
    """
    images, labels = data.part("judges")
    missing = [name for k, name in enumerate(data.classes) if not bool((labels == k).any())]
    if missing:
        raise UserError(f"judges need images of every class, {data.name} has none of {', '.join(missing)} in its judges split")
    if min(images.shape[-2:]) < SIDE:
        raise UserError(f"judges need images of at least {SIDE} x {SIDE} pixels, {data.name} has {images.shape[-2]} x {images.shape[-1]}")
    loaded = [] if weights is None else networks.load_all(weights, data)
    own = f"{data.name}/judges ({len(labels)} images)"
    small = max(images.shape[-2:]) <= SIDE
    chosen = {name: entry for name, entry in MEMBERS.items() if (name in only if only is not None else not (small and name in PHOTOGRAPHS))}
    fitted = [
        member(name, family, *fit(images, labels, len(data.classes), seed), data, own, name if family in OWN_FEATURES else PIXELS)
        for name, (family, fit) in chosen.items()
    ]
    return (*fitted, *(member(name, "residual", scores, sha, data, f"weights {sha[:12]}", name) for name, scores, sha in loaded))


def member(name: str, family: str, scores: Scores, sha: str, data: Dataset, fitted_on: str, space: str) -> Judge:
    """A judge from its scores: temperature and "no class" calibrated on `data`; `sha` and `space` as in Judge."""
    shape = data.shape
    images, labels = data.part("judges")
    held, truth = data.part("calibration")
    logits, held_features = scores(held)
    t = temperature.fit(logits, truth.numpy())
    strange = openset.fit(scores(images)[1], labels.numpy(), held_features)

    def judge(batch: Tensor) -> Votes:
        batch = check_images(batch, shape)
        if len(batch) == 0:
            return Votes(probs=np.zeros((0, len(data.classes))), abstain=np.zeros(0, dtype=np.bool_) if strange else None)
        logits, features = scores(batch)
        abstain = strange.abstain(features) if strange else None
        return Votes(probs=temperature.probabilities(logits, t), abstain=abstain, features=features)

    return Judge(name=name, family=family, judge=judge, temperature=t, fitted_on=fitted_on, sha=sha, space=space)


def _classic(make: Callable[[int], Any], limit: int | None = None) -> Fit:
    """A scikit-learn classifier on pixels in [0, 1]; logits are decision values, or log vote shares where it has none."""

    def fit(images: Tensor, labels: Tensor, classes: int, seed: int) -> tuple[Scores, str]:
        chosen = np.random.default_rng(seed).permutation(len(images))[:limit] if limit and len(images) > limit else np.arange(len(images))
        model = make(seed).fit(pixels(images)[chosen], labels.numpy()[chosen])

        def scores(batch: Tensor) -> tuple[Floats, Floats]:
            x = pixels(batch)
            if not hasattr(model, "decision_function"):
                return np.log((1 - SMOOTHING) * model.predict_proba(x) + SMOOTHING / classes), x
            values = np.asarray(model.decision_function(x), dtype=np.float64)
            # With two classes scikit-learn returns one column: the log-odds of the second.
            return (np.stack([np.zeros_like(values), values], axis=1) if values.ndim == 1 else values), x

        return scores, str(joblib.hash(model, hash_name="sha1"))

    return fit


def _cnn(offset: int) -> Fit:
    def fit(images: Tensor, labels: Tensor, classes: int, seed: int) -> tuple[Scores, str]:
        network, sha = cnn.fit(images, labels, classes, 2 * seed + offset)

        def scores(batch: Tensor) -> tuple[Floats, Floats]:
            logits, features = network(batch)
            return _double(logits), _double(features)

        return scores, sha

    return fit


def pixels(images: Tensor) -> Floats:
    """uint8 images (B, C, H, W) as rows in [0, 1]; images of more than 8 x 8 pixels are averaged down to that."""
    x = images.to(torch.float64) / 255
    return np.asarray((F.adaptive_avg_pool2d(x, SIDE) if max(x.shape[-2:]) > SIDE else x).flatten(1).numpy())


def _double(x: Tensor) -> Floats:
    return np.asarray(x.to(torch.float64).numpy())


MEMBERS: dict[str, tuple[str, Fit]] = {
    "svc": ("kernel", _classic(lambda seed: SVC(C=10.0, random_state=seed), limit=SVC_IMAGES)),
    "knn": ("neighbours", _classic(lambda seed: KNeighborsClassifier(n_neighbors=5, weights="distance"))),
    "forest": ("trees", _classic(lambda seed: RandomForestClassifier(n_estimators=200, random_state=seed))),
    "logistic": ("linear", _classic(lambda seed: LogisticRegression(max_iter=2000, random_state=seed))),
    "cnn-a": ("convolution", _cnn(0)),
    "cnn-b": ("convolution", _cnn(1)),
    "patches": ("patches", patches.fit),
}
