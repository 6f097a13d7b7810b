"""Shares by hand, their coverage, and the honest interval of a judge that cannot tell."""

import numpy as np
import pytest

from auditkit_evaluators.mixture import fit, shares, total_variation

SHARP = np.array([[95, 3, 2], [4, 94, 2], [1, 1, 98]])  # two classes and noise; answers: zero, one, no class
BLIND = np.array([[90, 10, 0], [10, 90, 0], [88, 12, 0]])  # noise has nearly the column of class zero


def test_a_mixture_of_known_columns_is_found():
    columns = SHARP / SHARP.sum(axis=1, keepdims=True)
    truth = np.array([0.2, 0.0, 0.8])
    found = fit((1000 * truth @ columns)[None], columns[None])[0]
    assert found == pytest.approx(truth, abs=0.005)


def test_em_climbs_to_the_most_likely_mixture():
    rng = np.random.default_rng(0)
    columns = rng.dirichlet(np.ones(4), size=3)
    votes = rng.multinomial(200, [0.3, 0.3, 0.2, 0.2]).astype(float)
    found = fit(votes[None], columns[None])[0]

    def likelihood(pi):
        return float(votes @ np.log(pi @ columns))

    assert found.sum() == pytest.approx(1)
    others = rng.dirichlet(np.ones(3), size=4000)
    assert likelihood(found) >= max(likelihood(pi) for pi in others) - 1e-3


def test_a_judge_that_cannot_tell_says_so_by_its_interval():
    """Closed-set ResNet-56: a naive rate of 21 % for birds where there are none; the mixture leaves everything open."""
    found = shares(np.array([440, 60, 0]), BLIND)
    assert found.low[0] < 0.2
    assert found.high[0] > 0.8
    assert not found.surely_above(0, 0.02, claims=14)
    sharp = shares(np.array([10, 10, 980]), SHARP * 5)
    assert sharp.high[0] < 0.05


def test_nothing_found_is_not_nothing_there():
    """0 of 500: the bound is that of Clopper and Pearson, .74 %, and not the bootstrap's 0."""
    found = shares(np.array([0, 0, 500]), np.array([[200, 0, 0], [0, 200, 0], [0, 0, 500]]))
    assert found.value[0] < 1e-3
    assert found.high[0] == pytest.approx(0.0074, abs=0.0005)
    assert found.low[2] == pytest.approx(1 - 0.0074, abs=0.001)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_the_interval_covers_the_truth(share):
    """Columns from 31 images of a class, as on the digits' cards; of 120 simulations 90 % are 108 +- 3.3."""
    rng = np.random.default_rng(1)
    columns = np.array([[0.93, 0.02, 0.05], [0.03, 0.92, 0.05], [0.01, 0.01, 0.98]])
    truth, covered, seen = np.array([share, 0.0, 1 - share]), 0, 0
    for k in range(120):
        measured = np.stack([rng.multinomial(n, c) for n, c in zip((31, 31, 1000), columns, strict=True)])
        found = shares(rng.multinomial(500, truth @ columns), measured, seed=k)
        covered += found.low[0] <= share <= found.high[0]
        seen += found.surely_above(0, 0.02, claims=14)
    assert covered >= 104
    assert seen == (0 if share == 0 else 120)


def test_claims_make_it_harder_to_be_sure():
    found = shares(np.array([60, 5, 435]), SHARP)
    assert found.surely_above(0, 0.02, claims=1)
    assert not found.surely_above(0, 0.02, claims=10**6)
    assert not found.surely_above(0, 0.99, claims=1)


def test_total_variation():
    assert total_variation(np.array([1, 0]), np.array([0, 7])) == 1
    assert total_variation(np.array([2, 2]), np.array([5, 5])) == 0
    assert total_variation(np.array([3, 1]), np.array([1, 3])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("votes", "columns"), [([0, 0], [[1, 0], [0, 1]]), ([1, 1], [[1, 0], [0, 0]]), ([1, 1], [[1, 0, 0]])], ids=["none", "empty", "shape"]
)
def test_what_cannot_be_fitted_is_refused(votes, columns):
    with pytest.raises(ValueError, match="expected votes"):
        shares(np.array(votes), np.array(columns))
