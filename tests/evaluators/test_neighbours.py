"""Blocks change nothing: neighbours and counts are those of brute force in float64, also for copies and near-copies far from 0."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from auditkit_evaluators import neighbours
from auditkit_evaluators.neighbours import inside, nearest


@pytest.fixture(params=[7, 64, 4096])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


def brute(x, y):
    return np.sqrt(np.square(x.astype(np.float64)[:, None] - y.astype(np.float64)[None]).sum(axis=2))


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_agrees_with_scikit_learn(dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(3, 1, size=(n, 13)).astype(dtype) for n in (65, 130))
    wanted, at = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(y.astype(np.float64)).kneighbors(x.astype(np.float64))
    found, indices = nearest(x, y, 5)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_array_equal(indices, at)


@pytest.mark.usefixtures("block")
def test_a_row_itself_is_left_out_by_its_number_and_its_copies_are_not():
    y = np.random.default_rng(1).normal(size=(70, 4))
    y[69] = y[3]
    distances, indices = nearest(y, y, 2, exclude_self=True)
    assert indices[3, 0] == 69
    assert indices[69, 0] == 3
    assert distances[3, 0] == distances[69, 0] == 0.0
    assert not (indices == np.arange(70)[:, None]).any()
    np.testing.assert_allclose(distances[:3], np.sort(brute(y[:3], y), axis=1)[:, 1:3], rtol=1e-12)


def test_near_duplicates_far_from_zero_keep_four_digits():
    """Rows of norm 1e4 that lie .1 apart: |x|^2 + |y|^2 - 2 x.y in float32 is off by up to 80 there."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(200, 64)).astype(np.float32) * np.float32(1250)
    x = y + rng.normal(size=y.shape).astype(np.float32) * np.float32(0.0125)
    distances, indices = nearest(x, y, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(200))
    np.testing.assert_allclose(distances[:, 0], brute(x, y).min(axis=1), rtol=1e-4)


def test_copies_far_from_zero_are_exactly_zero_apart():
    """From the products alone they would be 1e-4 apart."""
    y = np.random.default_rng(4).normal(size=(300, 512)) * 1e3
    assert (nearest(y[::2].copy(), y, 1)[0] == 0).all()


def test_collapsed_features_are_exactly_zero_apart():
    x = np.full((50, 512), 0.1, dtype=np.float32)
    assert (nearest(x, x, 5, exclude_self=True)[0] == 0).all()
    assert (inside(x, x, np.zeros(50)) == 50).all()


@pytest.mark.usefixtures("block")
def test_inside_counts_balls_and_a_ball_holds_its_edge():
    rng = np.random.default_rng(3)
    x, y = rng.normal(5, 1, size=(65, 6)), rng.normal(5, 1, size=(130, 6))
    radii = nearest(y, y, 3, exclude_self=True)[0][:, -1]
    np.testing.assert_array_equal(inside(x, y, radii), (brute(x, y) <= radii).sum(axis=1))
    # Each row that set a radius lies on an edge: at least the 3 nearest rows are inside every ball, whatever rounding does.
    held = brute(y, y) <= radii * (1 + 1e-9)
    np.testing.assert_array_equal(inside(y, y, radii), held.sum(axis=1))
    np.testing.assert_array_equal(inside(y, y, radii, exclude_self=True), held.sum(axis=1) - 1)


def test_what_cannot_be_answered_is_refused():
    x = np.zeros((4, 2))
    with pytest.raises(ValueError, match="same D"):
        nearest(x, np.zeros((4, 3)), 1)
    with pytest.raises(ValueError, match="1 <= k <= 3 neighbours, found k = 4"):
        nearest(x, x, 4, exclude_self=True)
    with pytest.raises(ValueError, match="same rows twice"):
        nearest(x, np.zeros((5, 2)), 1, exclude_self=True)
    with pytest.raises(ValueError, match="finite"):
        nearest(x, np.full((4, 2), np.nan), 1)
    with pytest.raises(ValueError, match="radii"):
        inside(x, x, np.zeros(3))
