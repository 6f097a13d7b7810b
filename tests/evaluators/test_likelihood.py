"""The widened interval by hand, and where a bootstrap alone is too narrow."""

import numpy as np
import pytest

from auditkit_evaluators.likelihood import widened
from auditkit_evaluators.mixture import shares

COLUMNS = np.array([[90.0, 5.0, 5.0], [5.0, 90.0, 5.0], [1.0, 1.0, 98.0]])


def test_what_the_answers_exclude_stays_out():
    low, high = widened(np.array([95.0, 12.0, 393.0]), COLUMNS, np.array([0.2, 0.01, 0.79]), 0, 0.15, 0.25)
    assert 0.1 < low <= 0.15
    assert 0.25 <= high < 0.32


def test_an_interval_is_never_narrowed():
    low, high = widened(np.array([95.0, 12.0, 393.0]), COLUMNS, np.array([0.2, 0.01, 0.79]), 0, 0.0, 0.9)
    assert (low, high) == (0.0, 0.9)
    assert widened(np.array([95.0, 12.0, 393.0]), COLUMNS, np.array([0.2, 0.01, 0.79]), 0, 0.0, 1.0) == (0.0, 1.0)


def test_answers_of_the_class_alone_allow_all_of_it_and_others_do_not():
    point = np.array([0.97, 0.02, 0.01])
    assert widened(np.array([450.0, 25.0, 25.0]), COLUMNS, point, 0, 0.9, 0.98)[1] == 1.0
    assert widened(np.array([350.0, 25.0, 125.0]), COLUMNS, np.array([0.77, 0.02, 0.21]), 0, 0.7, 0.85)[1] < 0.9


def test_equal_columns_leave_everything_open():
    equal = np.array([[45.0, 5.0], [46.0, 4.0]])
    assert widened(np.array([90.0, 10.0]), equal, np.array([0.5, 0.5]), 0, 0.4, 0.6) == (0.0, 1.0)


@pytest.mark.parametrize(("share", "other"), [(1.0, 10), (0.0, 9), (0.9, 10)])
def test_the_interval_covers_near_its_ends(share, other):
    """31 images a class: the bootstrap alone covers 45, 50 and 48 of 60. Of 60 at 95 %, 57 +- 1.7."""
    k = 10
    columns = np.full((k + 1, k + 1), 0.02 / (k - 2))
    for c in range(k):
        columns[c, c], columns[c, (c + 1) % k], columns[c, k] = 0.90, 0.03, 0.05
    columns[k], columns[k, k] = 0.002, 0.98
    columns /= columns.sum(axis=1, keepdims=True)
    truth = np.zeros(k + 1)
    truth[0] += share
    truth[other] += 1 - share
    rng, covered, width = np.random.default_rng(1), 0, 0.0
    for i in range(60):
        measured = np.stack([rng.multinomial(31 if c < k else 1000, column) for c, column in enumerate(columns)])
        found = shares(rng.multinomial(500, truth @ columns), measured, seed=i)
        covered += bool(found.low[0] <= share <= found.high[0])
        width += float(found.high[0] - found.low[0]) / 60
    assert covered >= 55
    assert width < 0.22
