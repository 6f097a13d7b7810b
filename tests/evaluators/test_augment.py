"""What training images go through: each change alone, keyed by its generator."""

import pytest
import torch

from auditkit_evaluators.augment import CLEAN, SHIFT, blended, mirrored, shifted


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(400, 3, 8, 9, generator=rng(9))


@pytest.mark.parametrize("change", [shifted, mirrored, blended])
def test_the_generator_alone_decides(change, images):
    state = torch.get_rng_state()
    assert torch.equal(change(images, rng()), change(images, rng()))
    assert not torch.equal(change(images, rng()), change(images, rng(1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert change(images, rng()).shape == images.shape


def test_shifts_reach_one_pixel_and_move_zeros_in(images):
    moved = shifted(images, rng())
    inner = (slice(None), slice(SHIFT, -SHIFT), slice(SHIFT, -SHIFT))
    for before, after in zip(images[:20], moved[:20], strict=True):
        places = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if torch.equal(after[inner], before.roll((dy, dx), (1, 2))[inner])]
        assert len(places) == 1
    assert ((moved == 0).all(dim=1).any(dim=(1, 2))).float().mean() == pytest.approx(8 / 9, abs=0.06)


def test_half_of_the_colour_images_are_mirrored_and_no_grey_one(images):
    turned = mirrored(images, rng())
    same = (turned == images).all(dim=(1, 2, 3))
    assert torch.equal(turned[~same], images[~same].flip(3))
    assert same.float().mean() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(mirrored(images[:, :1], rng()), images[:, :1])


def test_half_of_the_images_stay_and_the_others_are_on_the_ladder():
    white = torch.ones(2000, 1, 8, 8)
    noisy = blended(white, rng())
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    same = (noisy == white).all(dim=(1, 2, 3))
    assert same.float().mean() == pytest.approx(CLEAN, abs=0.04)
    grey = 2 * blended(torch.full((2000, 1, 8, 8), 0.5), rng()) - 1
    deviation = grey[~same].flatten(1).std(dim=1)
    assert deviation.mean() == pytest.approx(0.498, abs=0.01)  # by integration: N(0, 1 - a) clamped to -1..1, a uniform in .3..1
