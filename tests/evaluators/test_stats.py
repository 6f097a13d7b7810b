"""Known values (their source beside them), coverage, and what cannot be measured."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from auditkit.results import Measure
from auditkit_evaluators import stats
from auditkit_evaluators.stats import clopper_pearson, difference, entropy, mean_measure, paired_difference, rate

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 500, 0.0, 1 - 0.025 ** (1 / 500)),  # closed form; R's binom.test(0, 500): 0.007350
        (500, 500, 0.025 ** (1 / 500), 1.0),
        (5, 10, 0.1870860, 0.8129140),  # R 4: binom.test(5, 10)$conf.int
        (1, 10, 0.0025286, 0.4450161),  # R 4: binom.test(1, 10)$conf.int
    ],
)
def test_clopper_pearson_known_values(k, n, low, high):
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-6)


def test_zero_of_500_excludes_a_rate_of_074_percent():
    assert clopper_pearson(0, 500)[1] == pytest.approx(0.0074, abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_none(k, n):
    with pytest.raises(ValueError, match=f"found k = {k}, n = {n}"):
        clopper_pearson(k, n)


@pytest.mark.parametrize("n", [7, 50])
def test_clopper_pearson_covers_at_least_95_percent_whatever_the_truth(n):
    """Exact coverage, not simulated: the binomial mass of all k whose interval holds p."""
    limits = np.array([clopper_pearson(k, n) for k in range(n + 1)])
    p = np.linspace(0.001, 0.999, 997)
    inside = (limits[:, :1] <= p) & (p <= limits[:, 1:])
    coverage = (binom.pmf(np.arange(n + 1)[:, None], n, p) * inside).sum(axis=0)
    assert coverage.min() >= 0.95
    assert coverage.min() < 0.98  # and it is no interval that always says "anywhere"


@pytest.mark.parametrize(("n1", "n2"), [(20, 20), (50, 15)])
def test_difference_covers_the_true_difference(n1, n2):
    """Exact coverage on a grid of two truths. Square-and-add has no guarantee; on Clopper-Pearson limits it is conservative."""
    low, high = np.empty((n1 + 1, n2 + 1)), np.empty((n1 + 1, n2 + 1))
    for i in range(n1 + 1):
        for j in range(n2 + 1):
            d = difference("d", i, n1, j, n2)
            low[i, j], high[i, j] = d.low, d.high
    grid = np.linspace(0.02, 0.98, 25)
    coverage = np.array(
        [
            (binom.pmf(np.arange(n1 + 1), n1, p)[:, None] * binom.pmf(np.arange(n2 + 1), n2, q) * ((low <= p - q) & (p - q <= high))).sum()
            for p in grid
            for q in grid
        ]
    )
    assert coverage.min() >= 0.95


def test_difference_by_hand():
    """50 of 100 and 30 of 100: limits .39832, .60168 and .21241, .39982 (R 4: binom.test), squared and added by hand."""
    d = difference("d", 50, 100, 30, 100)
    assert d.value == pytest.approx(0.2)
    assert d.low == pytest.approx(0.2 - math.hypot(0.5 - 0.39832, 0.39982 - 0.3), abs=1e-4)
    assert d.high == pytest.approx(0.2 + math.hypot(0.60168 - 0.5, 0.3 - 0.21241), abs=1e-4)
    back = difference("d", 30, 100, 50, 100)
    assert (back.low, back.high) == pytest.approx((-d.high, -d.low))


def test_difference_stays_in_range_and_widens_with_the_number_of_comparisons():
    extreme = difference("d", 5, 5, 0, 5)
    assert extreme.low is not None
    assert extreme.value == extreme.high == 1.0
    one, three = (difference("d", 50, 100, 30, 100, comparisons=m) for m in (1, 3))
    assert three.low < one.low < one.high < three.high
    assert one.note is None
    assert "3 comparisons" in three.note
    with pytest.raises(ValueError, match="comparisons >= 1"):
        difference("d", 1, 2, 1, 2, comparisons=0)


def test_no_images_is_not_measured_and_not_zero():
    for measure in (rate("r", 0, 0), difference("d", 0, 0, 1, 2), mean_measure("m", np.array([1.0]), unit="nats")):
        assert measure.value is None
        assert measure.note
        assert measure.text() == "not measured"


def test_entropy_of_confident_rows_is_zero_and_of_uniform_rows_ln_k():
    """SA's and SalUn's formula gives NaN on the first two rows."""
    probs = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1e-320, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(entropy(probs), [0, 0, math.log(4), math.log(2)], atol=1e-12)
    assert entropy(np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize("row", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], [0.3, 0.3]])
def test_entropy_refuses_what_is_no_distribution(row):
    with pytest.raises(ValueError, match="sum to 1"):
        entropy(np.array([row]))


def test_mean_measure_is_seeded_and_near_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    a, b = (mean_measure("m", values, unit="nats", seed=1) for _ in range(2))
    assert a == b
    assert a != mean_measure("m", values, unit="nats", seed=2)
    half = 1.96 * values.std(ddof=1) / 20
    assert a.value == pytest.approx(values.mean())
    assert (a.low, a.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    constant = mean_measure("m", np.full(5, 0.25), unit="share")
    assert (constant.low, constant.value, constant.high) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="1 that are not"):
        mean_measure("m", np.array([0.0, math.nan, 1.0]), unit="nats")


def test_measures_survive_json():
    for measure in (rate("r", 3, 500, safer="lower"), difference("d", 1, 9, 2, 9, comparisons=2), rate("r", 0, 0)):
        assert Measure.model_validate_json(measure.model_dump_json()) == measure


def test_a_paired_difference_counts_only_the_images_on_which_the_two_differ():
    """20 of 500 only in the first, 5 only in the second, 100 in both: 3 points, and far tighter than two samples of 500."""
    first, second = np.zeros(500, bool), np.zeros(500, bool)
    first[:120] = True
    second[20:125] = True
    paired = paired_difference("x", first, second)
    assert paired.value == pytest.approx(0.03)
    assert (paired.low, paired.high) == pytest.approx((0.010, 0.053), abs=0.002)
    apart = difference("x", 120, 500, 105, 500)
    assert apart.high - apart.low > 2 * (paired.high - paired.low)
    with pytest.raises(ValueError, match="expected two bool arrays"):
        paired_difference("x", first, second[:10])


@pytest.mark.parametrize(("n", "first", "second"), [(200, 0.06, 0.03), (500, 0.4, 0.4), (500, 0.5, 0.45), (100, 0.25, 0.1)])
def test_paired_intervals_cover_the_truth(n, first, second):
    """1000 samples; without the correlation of the two shares the second and third case cover 88 to 89 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for u in rng.random((1000, n)):
        m = paired_difference("x", u < first, (u >= first) & (u < first + second))
        covered += m.low <= first - second <= m.high
    assert covered >= 940  # 95 % less 1.5 standard errors of 1000 samples


def test_a_mean_is_resampled_the_same_in_blocks_and_one_by_one(monkeypatch):
    values = np.random.default_rng(3).random(70)
    blocks = mean_measure("mean", values, unit="x", seed=5)
    monkeypatch.setattr(stats, "BLOCK", 1)
    assert mean_measure("mean", values, unit="x", seed=5) == blocks
    rng = np.random.default_rng(5)
    means = [values[rng.integers(70, size=70)].mean() for _ in range(stats.RESAMPLES)]
    assert (blocks.low, blocks.high) == tuple(np.quantile(means, [0.025, 0.975]))
