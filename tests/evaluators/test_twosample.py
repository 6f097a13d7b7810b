"""Both tests find what is there, their numbers are those of their formulas, and sets alike get p-values that are uniform."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom, kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from auditkit_evaluators.twosample import c2st, mmd

BOTH = pytest.mark.parametrize("test", [c2st, mmd])


def gaussians(n, m, width, shift, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, size=(n, width)), rng.normal(size=(m, width))


@BOTH
def test_p_is_uniform_over_null_sets(test):
    """60 pairs of skewed, unequal sets of one distribution; a p below .05 in more than 8 of 60 has probability .002."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found.append(test(rng.exponential(size=(40, 6)), rng.exponential(size=(70, 6)), rng, permutations=199, resamples=0).p)
    assert sum(p <= 0.05 for p in found) <= binom.ppf(0.998, 60, 0.05)
    assert kstest(found, "uniform").pvalue > 0.01


@BOTH
def test_ties_do_not_make_p_small(test):
    """Features of two values, where nearly every permutation ties with another."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found.append(test(*(rng.integers(0, 2, size=(24, 1)).astype(float) for _ in range(2)), rng, permutations=99, resamples=0).p)
    assert sum(p <= 0.05 for p in found) <= binom.ppf(0.998, 40, 0.05)


@BOTH
@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.01, 1), (0.5, 0, 0.001)])
def test_sets_apart_are_told_apart(test, shift, low, high):
    x, y = gaussians(200, 150, 8, shift, seed=3)
    assert low < test(x, y, np.random.default_rng(0)).p <= high


def test_auc_is_that_of_a_classifier_on_the_other_half():
    x, y = gaussians(60, 40, 5, 0.4, seed=1)
    found = c2st(x, y, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    x, y = x[rng.permutation(60)], y[rng.permutation(40)]
    learnt, asked = np.concatenate([x[:30], y[:20]]), np.concatenate([x[30:], y[20:]])
    scaler = StandardScaler().fit(learnt)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(learnt), np.arange(50) < 30)
    assert found.value == pytest.approx(roc_auc_score(np.arange(50) < 30, model.decision_function(scaler.transform(asked))))
    assert found.low < found.value < found.high
    assert found.rows == 20


def test_mmd_is_that_of_gretton_equation_3():
    x, y = gaussians(30, 20, 4, 0.5, seed=2)
    spread = np.median(pdist(np.concatenate([x, y]))) ** 2
    xx, yy, xy = (np.exp(-cdist(a, b, "sqeuclidean") / (2 * spread)) for a, b in ((x, x), (y, y), (x, y)))
    wanted = (xx.sum() - 30) / (30 * 29) + (yy.sum() - 20) / (20 * 19) - 2 * xy.mean()
    found = mmd(x, y, np.random.default_rng(0))
    assert found.value == pytest.approx(wanted, abs=1e-12)
    assert found.low < wanted < found.high


def test_mmd_of_one_distribution_is_zero_on_average_and_can_be_negative():
    found = [mmd(*gaussians(30, 30, 4, 0, seed), np.random.default_rng(0), permutations=0, resamples=0).value for seed in range(100)]
    assert min(found) < 0
    assert abs(np.mean(found)) < 3 * np.std(found) / 10


def test_intervals_of_sets_apart_hold_the_truth():
    """Truth from 2,000 rows a side. 95 % intervals of 60 rows should miss it in 2 of 40; more than 6 has probability .003."""
    truth = mmd(*gaussians(2000, 2000, 3, 0.6, seed=99), np.random.default_rng(0), permutations=0, resamples=0).value
    tests = [mmd(*gaussians(60, 60, 3, 0.6, seed), np.random.default_rng(seed), permutations=0, resamples=200) for seed in range(40)]
    assert sum(not t.low <= truth <= t.high for t in tests) <= 6


def test_copies_and_constants_are_no_error():
    x = np.ones((20, 3))
    assert mmd(x, x, np.random.default_rng(0)).value == pytest.approx(0, abs=1e-12)
    assert mmd(x, x, np.random.default_rng(0)).p == 1.0
    assert c2st(x, x, np.random.default_rng(0)).value == 0.5
    assert c2st(x, x, np.random.default_rng(0)).p == 1.0
    assert mmd(x, x + 1, np.random.default_rng(0)).p == 0.001


@BOTH
def test_the_same_seed_gives_the_same_answer_and_few_rows_are_refused(test):
    x, y = gaussians(20, 20, 3, 0.2, seed=5)
    assert test(x, y, np.random.default_rng(1)) == test(x, y, np.random.default_rng(1))
    with pytest.raises(ValueError, match="at least 8 rows a side, found 7 and 20"):
        test(x[:7], y, np.random.default_rng(1))
