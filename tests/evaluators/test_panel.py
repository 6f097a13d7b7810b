"""The noise panel holds what its names say, and image i does not depend on how many were asked for."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from auditkit.data import to_model
from auditkit_evaluators.panel import KINDS, RUNGS, kinds, ladder

SHAPE = (3, 9, 12)


@pytest.fixture(scope="module")
def real():
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (20, *SHAPE), generator=rng, dtype=torch.uint8)


def correlation(images, a, b):
    x = images.double().numpy()
    return np.corrcoef(x[a].ravel(), x[b].ravel())[0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_image_i_depends_on_the_seed_the_kind_and_i_alone(kind, real):
    make = KINDS[kind]
    images = make(30, SHAPE, 4, real)
    assert images.shape == (30, *SHAPE)
    assert images.dtype == torch.uint8
    assert torch.equal(make(7, SHAPE, 4, real), images[:7])
    assert not torch.equal(make(30, SHAPE, 5, real), images)
    assert len(torch.unique(images, dim=0)) == 30
    assert make(0, SHAPE, 4, real).shape == (0, *SHAPE)


def test_kinds_differ_under_one_seed(real):
    one, half = (KINDS[kind](50, SHAPE, 4, real) for kind in ("normal-1", "normal-.5"))
    assert abs(correlation(torch.stack([one, half]), 0, 1)) < 0.04  # 3 standard errors at 16,200 pixels are .024
    assert len({KINDS[kind](2, SHAPE, 4, real).numpy().tobytes() for kind in KINDS}) == len(KINDS) == 12


def test_grey_noise_of_one_channel_is_left_out():
    assert set(kinds(3)) == set(KINDS)
    assert set(KINDS) - set(kinds(1)) == {"grey"}


@pytest.mark.parametrize(("kind", "sigma"), [("normal-1", 1.0), ("normal-.5", 0.5), ("normal-.25", 0.25), ("normal-.1", 0.1)])
def test_sigma_is_that_of_the_name_in_model_units(kind, sigma, real):
    x = to_model(KINDS[kind](300, SHAPE, 0, real)).double()
    inside = (x.abs() < 0.67448975 * sigma).double().mean()  # the quartiles: clamping does not move them
    assert abs(inside - 0.5) < 0.03  # 8 % of sigma moves it by .03; rounding to 8 bits moves sigma .1 by .021
    assert abs(x.mean()) < 0.01


def test_each_kind_is_what_it_is_called(real):
    made = {kind: KINDS[kind](200, SHAPE, 0, real) for kind in KINDS}
    assert set(made["sign"].unique().tolist()) == {0, 255}
    assert ((made["normal-4"] == 0) | (made["normal-4"] == 255)).double().mean() > 0.75
    assert abs(made["uniform"].double().std() - 255 / 12**0.5) < 1.5
    assert torch.equal(made["grey"][:, 0], made["grey"][:, 2])
    assert bool((made["constant"].flatten(2).amax(2) == made["constant"].flatten(2).amin(2)).all())
    assert len(made["constant"][:, 0, 0, 0].unique()) > 100
    right = ((..., slice(1, None)), (..., slice(None, -1)))
    assert correlation(made["blurred"], *right) > 0.6
    assert correlation(made["coloured"], *right) > 0.4
    assert abs(correlation(made["normal-1"], *right)) < 0.02
    assert abs(correlation(made["coloured"], (slice(None), 0), (slice(None), 1))) < 0.1
    assert torch.equal(made["shuffled"][3].flatten(1).sum(1), real[3].flatten(1).sum(1))


def test_shuffled_needs_real_images_of_the_shape(real):
    with pytest.raises(ValueError, match="found none"):
        KINDS["shuffled"](3, SHAPE, 0, real[:0])
    with pytest.raises(ValueError, match="uint8"):
        KINDS["shuffled"](3, (1, 8, 8), 0, real)


def test_the_ladder_goes_from_noise_to_the_real_image(real):
    assert (RUNGS[0], RUNGS[-1]) == (0.0, 1.0)
    assert torch.equal(ladder(real, 1.0, 0), real)
    assert torch.equal(ladder(real, 0.0, 0), ladder(255 - real, 0.0, 0))
    likeness = [correlation(torch.stack([ladder(real, a, 0), real]), 0, 1) for a in RUNGS]
    assert abs(likeness[0]) < 0.05
    assert all(a < b for a, b in pairwise(likeness))
    assert torch.equal(ladder(real, 0.25, 0)[:5], ladder(real[:5], 0.25, 0))
    assert not torch.equal(ladder(real, 0.25, 0), ladder(real, 0.25, 1))


def test_the_ladder_refuses_floats_and_a_outside(real):
    with pytest.raises(ValueError, match=r"0 <= a <= 1, found 1\.1"):
        ladder(real, 1.1, 0)
    with pytest.raises(ValueError, match="uint8"):
        ladder(real.float(), 0.5, 0)
