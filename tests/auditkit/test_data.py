import numpy as np
import pytest
import torch

from auditkit import data
from auditkit.errors import UserError


def test_digits_are_the_real_1797():
    digits = data.load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.dtype == torch.uint8
    assert digits.images.max() == 255
    assert torch.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # the UCI page's counts
    assert digits.sha256 == "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382", "bundled models and finished runs name it"


def test_splits_have_the_promised_shares_and_no_image_in_common():
    digits = data.load("digits")
    parts = {name: digits.part(name)[0] for name in data.SPLITS}
    assert sum(len(p) for p in parts.values()) == 1797
    for name, share in {"model": 0.5, "judges": 0.2, "calibration": 0.1, "heldout": 0.2}.items():
        assert abs(len(parts[name]) / 1797 - share) < 0.04
    rows = {name: {image.numpy().tobytes() for image in part} for name, part in parts.items()}
    for a in rows:
        for b in rows:
            assert a == b or not rows[a] & rows[b]


def test_a_split_follows_from_the_pixels_alone():
    images = np.random.default_rng(0).integers(0, 255, (50, 1, 8, 8), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(50)
    assert (data.split_by_pixels(images)[order] == data.split_by_pixels(images[order])).all()


def test_uint8_round_trip_is_exact_and_nan_is_refused():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(data.to_uint8(data.to_model(images)), images)
    with pytest.raises(FloatingPointError, match="NaN"):
        data.to_uint8(torch.full((1, 1, 2, 2), float("nan")))


@pytest.mark.parametrize("classes", [(10,), (-1,), (2, 2), (), tuple(range(10))])
def test_classes_that_cannot_be_forgotten_are_refused(classes):
    with pytest.raises(UserError, match="--class takes"):
        data.load("digits").check_classes(classes)


def test_an_unknown_data_set_gets_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        data.load("digit")
