"""Real digits, noise, another class, a mixture and copies each look like what they are, beside what real digits give each other."""

import numpy as np
import pytest

from auditkit_evaluators import density
from auditkit_evaluators.density import compare


@pytest.fixture(scope="module")
def sevens(digits):
    """180 real sevens as flat pixels, in random order."""
    x = digits.images[digits.labels == 7].flatten(1).numpy().astype(float)
    return x[np.random.default_rng(0).permutation(len(x))]


def table(found):
    return {m.name.removesuffix(" (pixels)").replace(" (pixels)", ""): m for m in found}


def test_every_number_carries_its_space_its_n_and_its_null(sevens):
    found = compare(sevens[:90], sevens[90:], space="pixels")
    names = [m.name for m in found]
    assert len(set(names)) == len(names)
    assert all("(pixels)" in name for name in names)
    assert not {m.name for m in compare(sevens[:90], sevens[90:], space="clip")} & set(names)
    for name in density.NAMES:
        at = names.index(f"{name} (pixels)")
        assert found[at].value is not None
        assert found[at].n > 0
        if name.endswith(" p"):
            assert 0 < found[at].value <= 1
        else:
            assert found[at].low <= found[at].value <= found[at].high
            assert names[at + 1] == f"{name} (pixels), real v real"
            assert "39 random splits" in found[at + 1].note


def test_without_its_null_the_numbers_are_the_same(sevens):
    every = compare(sevens[:60], sevens[60:], space="pixels")
    assert compare(sevens[:60], sevens[60:], space="pixels", null=False) == [m for m in every if "real v real" not in m.name]


def test_real_digits_are_like_real_digits(sevens):
    found = table(compare(sevens[:90], sevens[90:], space="pixels"))
    for name in ("precision", "recall", "density", "coverage", "clipped density", "C2ST AUC", "MMD^2"):
        null = found[f"{name}, real v real"]
        assert found[name].low <= null.high, name
        assert null.low <= found[name].high, name
    assert found["C2ST p"].value > 0.01
    assert found["MMD p"].value > 0.01


def test_noise_is_neither_dense_nor_covering(sevens):
    noise = np.random.default_rng(1).uniform(0, 255, size=(200, 64))
    found = table(compare(noise, sevens, space="pixels"))
    for name in ("density", "coverage", "clipped density", "clipped coverage"):
        assert found[name].high < 0.05, name
        assert found[f"{name}, real v real"].low > 0.4, name
    assert found["C2ST AUC"].low > 0.99
    assert found["C2ST p"].value == found["MMD p"].value == 0.001


def test_a_collapsed_generator_is_precise_and_covers_little(sevens):
    fake = sevens[:3].repeat(50, axis=0) + np.random.default_rng(2).normal(0, 1, size=(150, 64))
    found = table(compare(fake, sevens[3:], space="pixels"))
    assert found["precision"].low > 0.9
    assert found["coverage"].high < 0.5
    assert found["coverage"].high < found["coverage, real v real"].low
    assert found["clipped coverage"].high < found["clipped coverage, real v real"].low


def test_a_memorised_copy_is_precise_and_covers_all(sevens):
    found = table(compare(sevens[:100].copy(), sevens[:100], space="pixels"))
    assert found["precision"].value == found["coverage"].value == found["clipped coverage"].value == 1.0
    assert found["density"].value > found["density, real v real"].value


def test_the_null_is_of_random_splits_and_not_of_head_and_tail(sevens):
    """A reference that is sorted by sub-type, as one dump of CIFAR-10 is: its halves are two distributions, its splits are not."""
    reference = np.concatenate([sevens, sevens + 300])
    found = table(compare(sevens, reference, space="pixels"))
    assert found["coverage, real v real"].low > 0.8
    assert found["C2ST AUC, real v real"].value == pytest.approx(0.5, abs=0.05)


def test_what_cannot_be_measured_says_why(sevens):
    def notes(fake, real, only=None):
        found = [
            m for m in compare(fake, real, space="pixels") if "real v real" not in m.name and (only is None or m.name.startswith(only))
        ]
        assert all(m.value is None for m in found)
        return {m.note for m in found}

    assert notes(sevens[:1], sevens, "precision") == {"not measured: needs more than k = 5 images a side, found 1 and 179"}
    assert notes(sevens[:1], sevens, "C2ST") == {"not measured: needs at least 8 images a side, found 1 and 179"}
    assert notes(sevens[:5], sevens, "coverage") == {"not measured: needs more than k = 5 images a side, found 5 and 179"}
    assert notes(sevens, sevens[:5]) >= {"not measured: needs more than k = 5 images a side, found 179 and 5"}
    assert notes(sevens[:0], sevens) == {"not measured: no generated images"}
    assert notes(np.where(np.arange(64) == 3, np.nan, sevens), sevens) == {
        "not measured: NaN or infinite features in 179 of 179 generated images"
    }
    constant = np.full((50, 64), 0.1)
    assert notes(sevens, constant) == {"not measured: collapsed features: all real images are one point"}
    assert notes(constant, constant) == {"not measured: collapsed features: all real images are one point"}
    assert notes(constant, sevens, "recall") == {
        "not measured: collapsed features: all generated images are one point, which has no manifold"
    }
    too_small = [m for m in compare(sevens, sevens[:12], space="pixels") if m.name.endswith("real v real")]
    assert all(m.value is None and "too small to be split into 8 and 4" in m.note for m in too_small)


def test_identical_images_on_a_real_one_are_measured_and_not_silently_zero(sevens):
    found = table(compare(sevens[:1].repeat(30, axis=0), sevens[1:], space="pixels"))
    assert found["precision"].value == 1.0
    assert "no width" in found["density"].note
    assert found["coverage"].value < 0.2


def test_two_sizes_of_features_are_a_mistake_of_the_program(sevens):
    with pytest.raises(ValueError, match="found \\(179, 64\\), \\(179, 63\\)"):
        compare(sevens, sevens[:, 1:], space="pixels")
    with pytest.raises(ValueError, match="k = 0"):
        compare(sevens, sevens, space="pixels", k=0)


def test_large_sets_are_cut_for_the_two_sample_tests_and_it_is_said(monkeypatch, sevens):
    monkeypatch.setattr(density, "ROWS", 60)
    found = table(compare(sevens[:90], sevens[90:], space="pixels"))
    assert found["MMD^2"].note == "random 60 of 90 generated and 60 of 89 real"
    assert found["MMD^2"].n == 60
    assert found["precision"].n == 90


def test_the_same_seed_gives_the_same_numbers(sevens):
    assert compare(sevens[:60], sevens[60:], space="pixels", seed=1) == compare(sevens[:60], sevens[60:], space="pixels", seed=1)
    assert compare(sevens[:60], sevens[60:], space="pixels", seed=1) != compare(sevens[:60], sevens[60:], space="pixels", seed=2)
