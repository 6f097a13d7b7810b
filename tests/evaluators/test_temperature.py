"""The temperature is the one that makes the labels most likely."""

import numpy as np
import pytest
from scipy.special import softmax

from auditkit_evaluators import temperature


def test_finds_the_temperature_that_drew_the_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits / 0.4, axis=1)])
    assert temperature.fit(logits, labels) == pytest.approx(0.4, rel=0.03)
    assert temperature.fit(100 * logits, labels) == pytest.approx(40, rel=0.03)


def test_no_vote_changes_and_extreme_logits_stay_probabilities():
    logits = np.array([[1000.0, 0.0, -1000.0], [0.0, 1.0, 2.0]])
    for t in temperature.RANGE:
        p = temperature.probabilities(logits, t)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert p.argmax(axis=1).tolist() == [0, 2]


def test_a_judge_without_errors_gets_the_end_of_the_range():
    t = temperature.fit(np.eye(4), np.arange(4))
    assert temperature.RANGE[0] <= t < 0.05  # NLL falls for ever, and is 0 in float64 long before the end


def test_no_images_to_calibrate_on():
    with pytest.raises(ValueError, match="calibration split"):
        temperature.fit(np.zeros((0, 3)), np.zeros(0, dtype=int))
