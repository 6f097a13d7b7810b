"""Steps to recover, with the curves that never do."""

import numpy as np
import pytest
from scipy.stats import norm

from auditkit_evaluators import recovery
from auditkit_evaluators.recovery import Recovered, ain, area, compare, compare_over, steps_to

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


def test_one_classs_score_is_the_numerator_of_scipys_log_rank():
    """With the variance of the hypergeometric distribution, summed by hand, it is scipy's statistic."""
    first, second = [*seeds(5, 10, 10), *seeds(100, censored=True)], [*seeds(10, 20), *seeds(50, censored=True)]
    both, variance = [*first, *second], 0.0
    for step in (5, 10, 20):
        n, n1 = (sum(r.step >= step for r in side) for side in (both, first))
        d = sum(r.step == step and not r.censored for r in both)
        variance += n1 / n * (1 - n1 / n) * d * (n - d) / (n - 1)
    p = 2 * norm.sf(abs(recovery._score(first, second)) / variance**0.5)
    assert compare(first, second).value == pytest.approx(p)


def test_over_classes_a_shared_floor_is_no_evidence():
    """Ten classes under the null, whose models share their class's speed: the class has to be the unit."""
    rng, naive, clustered = np.random.default_rng(1), [], []
    points = np.array([1, 2, 5, 10, 20, 50, 100])
    for _ in range(200):
        a, b = ({k: seeds(*[rng.choice(points)] * 5) for k in range(10)} for _ in range(2))
        naive.append(compare([r for k in a for r in a[k]], [r for k in b for r in b[k]]).value < 0.05)
        clustered.append(compare_over(a, b).value < 0.05)
    assert np.mean(naive) > 0.2
    assert np.mean(clustered) < 0.09


def test_over_classes_slower_is_slower():
    """All ten classes agree: two of 1024 choices of signs give as much, whatever the sizes of their scores."""
    soon, late = {k: seeds(5, 10, 10 + k) for k in range(10)}, {k: seeds(50, 50, 100) for k in range(10)}
    assert compare_over(late, soon).value == 2 / 1024
    assert compare_over(late, soon).n == 10
    same = {k: seeds(5) for k in range(10)}, {k: seeds(10) for k in range(10)}
    assert compare_over(*same).value == 2 / 1024
    assert compare_over({k: late[k] for k in range(3)}, soon).value == 2 / 8
    assert "three" in compare_over({0: soon[0]}, {0: late[0]}).note
    assert compare_over(soon, soon).value == 1.0


def test_over_classes_it_is_the_sign_test_where_scores_are_equal():
    """Nine of ten classes one way: P(at most one other way, either side) = 22 / 1024."""
    a = {k: seeds(5 if k else 10) for k in range(10)}
    b = {k: seeds(10 if k else 5) for k in range(10)}
    assert compare_over(a, b).value == 22 / 1024


def test_over_many_classes_signs_are_drawn():
    a, b = {k: seeds(5) for k in range(20)}, {k: seeds(10) for k in range(20)}
    assert 0 < compare_over(a, b).value < 1e-3


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
