"""Steps to recover, with the curves that never do."""

import numpy as np
import pytest

from auditkit_evaluators.recovery import Recovered, ain, area, compare, steps_to

CURVE = [(0, 0.0), (10, 0.2), (20, 0.6), (50, 0.9)]


def seeds(*steps, censored=False):
    return [Recovered(s, censored) for s in steps]


def test_the_first_point_at_half_of_the_originals_rate():
    assert steps_to(CURVE, 1.0) == Recovered(20, censored=False)
    assert steps_to(CURVE, 0.4) == Recovered(10, censored=False)
    assert steps_to(CURVE, 1.0, tau=0.95) == Recovered(50, censored=True)
    with pytest.raises(ValueError, match="ceiling"):
        steps_to(CURVE, 0.0)


def test_log_rank_tells_fast_from_slow_and_not_twins():
    assert compare(seeds(5, 5, 10, 10, 10), seeds(50, 50, 100, 100, 100)).value < 0.01
    assert compare(seeds(5, 10, 20, 50, 100), seeds(5, 10, 20, 50, 100)).value > 0.5
    assert compare(seeds(5, 10, 20), seeds(100, 100, 100, censored=True)).value < 0.05
    assert compare(seeds(5, 5, 5), seeds(5, 5, 5)).value == 1


def test_what_was_not_measured_says_why():
    assert "three" in compare(seeds(5), seeds(5)).note
    assert "nobody" in compare(seeds(9, 9, 9, censored=True), seeds(9, 9, 9, censored=True)).note
    assert "three" in ain(seeds(5), seeds(5)).note


def test_log_rank_is_quiet_under_the_null():
    rng = np.random.default_rng(0)
    points = np.array([1, 2, 5, 10, 20, 50, 100])
    found = [compare(seeds(*rng.choice(points, 5)), seeds(*rng.choice(points, 5))).value for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) < 0.09  # asymptotic, with five seeds slightly liberal


def test_ain_is_a_ratio_with_its_bound_named():
    found = ain(seeds(5, 5, 5, 5), seeds(11, 11, 11, 11))
    assert found.value == pytest.approx(0.5)
    assert found.low == found.high == pytest.approx(0.5)
    assert "at most" in ain(seeds(5, 5, 5), seeds(100, 100, 100, censored=True)).note
    assert "at least" in ain(seeds(100, 100, 100, censored=True), seeds(5, 5, 5)).note
    assert "neither" in ain(seeds(9, 9, 9, censored=True), seeds(9, 9, 9, censored=True)).note


def test_area():
    assert area([(0, 1.0), (100, 1.0)], 1.0) == 1
    assert area([(0, 0.0), (100, 0.0)], 1.0) == 0
    assert area([(0, 0.5), (10, 0.5), (100, 0.5)], 0.5) == pytest.approx(1)
    early, late = area([(0, 0.0), (1, 1.0), (100, 1.0)], 1.0), area([(0, 0.0), (50, 0.0), (100, 1.0)], 1.0)
    assert early > 0.8 > 0.2 > late
