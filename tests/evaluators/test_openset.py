"""The answer "no class": a known false alarm on real features, and strange ones found."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from auditkit_evaluators import openset


def features(n, seed, shift=0.0, classes=3):
    """`classes` Gaussian clouds in 8 dimensions, moved by `shift` in all of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    return 10 + 5 * np.eye(8)[labels] + rng.standard_normal((n, 8)) + shift, labels


@pytest.fixture(scope="module")
def fitted():
    bank, labels = features(400, 0)
    return openset.fit(bank, labels, features(300, 1)[0])


def test_five_percent_of_real_features_are_refused(fitted):
    real = features(4000, 2)[0]
    assert 0.02 < fitted.abstain(real).mean() < 0.085  # the threshold itself rests on 300 images
    assert fitted.abstain(features(300, 1)[0]).mean() <= openset.REFUSED
    p = fitted.p_values(real)
    assert (p > 0).all()
    for level in (0.05, 0.2):
        assert (p <= level).mean() < level + 0.04


@pytest.mark.parametrize("strange", ["far", "between", "flat"])
def test_strange_features_are_refused(strange, fitted):
    rng = np.random.default_rng(3)
    x = {
        "far": rng.standard_normal((200, 8)) * 30,
        "between": 10 + rng.standard_normal((200, 8)) * 0.1,
        "flat": np.zeros((200, 8)),
    }[strange]
    assert fitted.abstain(x).mean() > 0.9
    assert fitted.p_values(x).max() < 0.2


def test_each_score_is_higher_for_stranger_features(fitted):
    near, far = fitted.scores(features(200, 4)[0]), fitted.scores(np.random.default_rng(5).standard_normal((200, 8)) * 30)
    assert (np.median(far, axis=0) > np.quantile(near, 0.95, axis=0)).all()


def test_the_second_is_the_squared_mahalanobis_distance_to_the_nearest_class(fitted):
    bank, labels = features(400, 0)
    means = np.stack([bank[labels == k].mean(axis=0) for k in range(3)])
    precision = LedoitWolf(assume_centered=True).fit(bank - means[labels]).precision_
    x = features(20, 6, shift=0.5)[0]
    expected = [min(mahalanobis(row, mean, precision) ** 2 for mean in means) for row in x]
    assert np.allclose(fitted.scores(x)[:, 1], expected, rtol=1e-9)


def test_classes_without_variation_have_scores():
    """Each image of a class is the same: there is no precision to speak of, and nothing fails."""
    bank, labels = features(400, 0)
    flat = np.stack([bank[labels == k][0] for k in range(3)])[labels]
    found = openset.fit(flat, labels, features(300, 1)[0])
    assert found is None or np.isfinite(found.scores(features(20, 2)[0])).all()


def test_too_few_images_or_collapsed_features_cannot_abstain():
    bank, labels = features(400, 0)
    held = features(300, 1)[0]
    assert openset.fit(bank[:39], labels[:39], held) is None
    assert openset.fit(bank, labels, held[:19]) is None
    assert openset.fit(np.ones_like(bank), labels, held) is None


def test_no_images(fitted):
    assert fitted.abstain(np.zeros((0, 8))).shape == (0,)
