"""The noise test passes noise of any distribution, finds any structure, and says how much of a real image it is worth."""

import numpy as np
import pytest
import torch

from auditkit_evaluators import noise
from auditkit_evaluators.panel import KINDS, ladder
from auditkit_evaluators.reference import EQUIVALENT

PURE = ("normal-1", "normal-.5", "normal-.1", "normal-4", "uniform", "sign")
COLOUR = (3, 8, 8)


@pytest.fixture(scope="module")
def reference(digits):
    return noise.fit(digits.part("model")[0])


@pytest.fixture(scope="module")
def heldout(digits):
    return digits.part("heldout")[0]


@pytest.fixture(scope="module")
def tinted(digits):
    """Digits in three channels of different strength."""
    return torch.cat([digits.images, digits.images // 2 + 100, 255 - digits.images // 3], dim=1)


@pytest.fixture(scope="module")
def colour_reference(tinted):
    return noise.fit(tinted[:300])


def unmeasured(found):
    return found.p is None and found.equivalent.value is None and found.equivalent.note == found.reason and not found.statistics


@pytest.mark.parametrize("kind", PURE)
def test_noise_of_any_distribution_is_noise(kind, reference, heldout):
    found = noise.test(KINDS[kind](500, (1, 8, 8), 0, heldout), reference)
    assert found.flagged.low < noise.LEVEL < 0.03
    assert found.p > 0.01
    assert found.equivalent.low == 0
    assert found.equivalent.high < 0.03
    assert found.reason is None


def test_set_p_values_of_noise_are_uniform_or_conservative(reference):
    """Saturated to 99 % in one direction too. 60 sets of 40: more than 9 under .05 has probability .001, more than 3 under .01 .003."""
    rng = np.random.default_rng(0)
    ps = []
    for i in range(60):
        x = [rng.integers(0, 256, (40, 1, 8, 8)), 255 * (rng.random((40, 1, 8, 8)) < 0.5), 255 * (rng.random((40, 1, 8, 8)) < 0.99)][i % 3]
        ps.append(noise.test(torch.from_numpy(x.astype(np.uint8)), reference, seed=i).p)
    assert sum(p < 0.05 for p in ps) <= 9
    assert sum(p < 0.01 for p in ps) <= 3


def test_flags_of_noise_come_at_their_level(reference, heldout):
    """4,000 images: .01 +- .0047 (3 standard errors), and the threshold itself is known to .0022."""
    found = [noise.flags(KINDS["normal-.5"](1000, (1, 8, 8), seed, heldout), reference, seed=seed).mean() for seed in range(4)]
    assert 0.004 < np.mean(found) < 0.016


def test_real_images_are_all_flagged(reference, heldout):
    found = noise.test(heldout, reference)
    assert found.flagged.value == 1
    assert found.p < 1e-100
    assert found.equivalent.value > 0.95
    assert noise.flags(heldout, reference).all()


def test_the_ladder_is_monotone_and_its_a_is_found_again(reference, heldout):
    found = {a: noise.test(ladder(heldout, a, 5), reference) for a in (0.0, 0.03, 0.1, 0.25, 0.5, 0.75)}
    for a, at in found.items():
        assert at.equivalent.low <= a <= at.equivalent.high
        assert at.equivalent.high - at.equivalent.low < 0.06
    shares = [at.flagged.value for at in found.values()]
    assert shares == sorted(shares)
    assert shares[-1] > 0.98
    assert found[0.03].p < 1e-6


@pytest.mark.parametrize("kind", ["blurred", "coloured", "constant"])
def test_structure_that_is_no_object_is_structure(kind, reference, heldout):
    found = noise.test(KINDS[kind](200, (1, 8, 8), 0, heldout), reference)
    assert found.flagged.low > 0.7  # 8 x 8 pixels blurred by half a pixel are hardly more than noise
    assert found.p < 1e-50
    assert found.equivalent.low > 0.2


def test_a_real_image_in_the_upper_half_alone(reference, heldout):
    images = KINDS["normal-.5"](len(heldout), (1, 8, 8), 0, heldout)
    images[:, :, :4] = heldout[:, :, :4]
    assert noise.test(images, reference).flagged.low > 0.5


def test_one_hidden_image_in_a_hundred_is_the_one_flagged(reference, heldout):
    images = KINDS["normal-1"](100, (1, 8, 8), 0, heldout)
    images[17] = heldout[0]
    flags = noise.flags(images, reference)
    assert flags[17]
    assert flags.sum() <= 5


def test_a_faint_pattern_common_to_all_images_is_seen_by_the_set_alone(reference, heldout):
    images = KINDS["normal-.5"](500, (1, 8, 8), 0, heldout).double()
    images[:, :, ::2, ::2] += 9  # a seventh of the noise
    found = noise.test(images.clamp(0, 255).to(torch.uint8), reference)
    assert found.p < 1e-4
    assert found.flagged.low < 0.01
    assert found.statistics[-1].name == "mean image"
    assert found.statistics[-1].value > 2


def test_colour(colour_reference, tinted):
    """Noise passes, channel-tied noise does not, and a channel that is flat changes neither."""
    plain, tied = (KINDS[kind](200, COLOUR, 1, tinted) for kind in ("normal-1", "grey"))
    assert [m.name for m in noise.test(plain, colour_reference).statistics][-2:] == ["channels", "mean image"]
    for dead in ((), (1,), (0, 1)):
        plain[:, list(dead)] = 7
        assert noise.test(plain, colour_reference).p > 0.01
    assert noise.flags(tied, colour_reference).all()
    assert noise.flags(tinted[300:400], colour_reference).all()


@pytest.mark.parametrize("sigma", [".1", ".25", ".5", "1"])
def test_sigma_is_that_of_the_noise_before_clamping(sigma, reference, heldout):
    found = noise.test(KINDS[f"normal-{sigma}"](500, (1, 8, 8), 1, heldout), reference)
    assert found.sigma.low < float(sigma) * 1.005
    assert found.sigma.high > float(sigma) * 0.995
    assert found.sigma.high - found.sigma.low < 0.04 * float(sigma)
    assert found.gaussian.value > 0.001


def test_other_distributions_are_no_clamped_normal(reference, heldout):
    assert noise.test(KINDS["uniform"](200, (1, 8, 8), 1, heldout), reference).gaussian.value < 1e-6
    for kind in ("sign", "normal-4"):
        found = noise.test(KINDS[kind](200, (1, 8, 8), 1, heldout), reference)
        assert found.sigma.value is None
        assert found.saturated.value > 0.5
    assert "saturated: 8" in found.sigma.note


def test_one_flat_colour_is_flagged_but_has_no_p(reference):
    flat = torch.full((30, 1, 8, 8), 90, dtype=torch.uint8)
    found = noise.test(flat, reference)
    assert unmeasured(found)
    assert "flat colour" in found.reason
    assert found.flagged.value == 1
    assert noise.flags(flat, reference).all()
    assert found.sigma.value is None


def test_a_flat_image_at_the_very_mean_of_the_others_is_structure(reference):
    """Its energy is 0, and 0 / 0 must not pass for noise."""
    half = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    half[half == 255] = 0
    images = torch.cat([half + 1, 255 - half, torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)])
    assert images.double().mean() == 128
    assert noise.flags(images, reference)[-1]


def test_few_images_have_flags_and_no_p(reference, heldout):
    for n in (1, 2, 19):
        real, pure = noise.test(heldout[:n], reference), noise.test(KINDS["uniform"](n, (1, 8, 8), 0, heldout), reference)
        assert real.flagged.value == 1
        assert pure.flagged.value <= 0.1
        assert real.p is None
        assert "20 images" in real.reason
        assert "20 images" in real.equivalent.note


def test_what_cannot_be_tested_says_why(reference, heldout):
    for images, why in ((heldout[:0], "no images"), (heldout.repeat(1, 3, 1, 1), r"images are (3, 8, 8), the reference is (1, 8, 8)")):
        found = noise.test(images, reference)
        assert unmeasured(found)
        assert why in found.reason
        assert found.flagged.value is None
    for real, why in ((heldout[:10], "64 real images"), (heldout[:0], "64 real images"), (torch.zeros_like(heldout), "flat colour")):
        poor = noise.fit(real)
        found = noise.test(heldout, poor)
        assert unmeasured(found)
        assert why in found.reason
        with pytest.raises(ValueError, match=why):
            noise.flags(heldout, poor)
    unreal = noise.fit(KINDS["uniform"](200, (1, 8, 8), 0, heldout))
    assert "do not stand out of noise" in noise.test(heldout, unreal).reason
    small = torch.randint(0, 256, (100, 1, 3, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert "4 x 4" in noise.test(small, noise.fit(small)).reason
    assert noise.flags(heldout[:0], reference).shape == (0,)


def test_refuses_floats(reference, heldout):
    for call in (lambda x: noise.fit(x), lambda x: noise.test(x, reference), lambda x: noise.flags(x, reference)):
        with pytest.raises(ValueError, match="uint8"):
            call(heldout.float())


def test_the_record_survives_json_and_the_list_holds_it_all(reference, heldout):
    for images in (heldout, heldout[:1], heldout[:0]):
        found = noise.test(images, reference)
        assert noise.Structure.model_validate_json(found.model_dump_json()) == found
        flat = noise.compare(images, reference)
        assert [m.name for m in flat][:3] == [noise.FLAGGED, noise.SET_P, EQUIVALENT]
        assert len(flat) == 6 + len(found.statistics)
        assert flat[1].value == found.p
    assert noise.test(heldout, reference) == noise.test(heldout, reference)
