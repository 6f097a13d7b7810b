"""Matched noise keeps each channel's histogram and nothing else."""

import numpy as np
import pytest
import torch

from auditkit_evaluators.matched import matched


def neighbours(images: torch.Tensor) -> float:
    """Correlation of pixels with their right neighbours."""
    x = images.double().numpy()
    return float(np.corrcoef(x[..., :-1].ravel(), x[..., 1:].ravel())[0, 1])


def test_keeps_the_histogram_of_each_channel(digits):
    real = torch.cat([digits.part("model")[0], 255 - digits.part("model")[0]], dim=1)  # two channels that differ
    fake = matched(real, 4000, seed=0)
    assert fake.shape == (4000, 2, 8, 8)
    assert fake.dtype == torch.uint8
    for c in range(2):
        a, b = (torch.bincount(x[:, c].flatten().long(), minlength=256).double() / x[:, c].numel() for x in (real, fake))
        assert (a - b).abs().max() < 0.006  # 4.5 standard errors of a share of .5 at 256,000 pixels are .0044
        assert not bool(b[a == 0].any())


def test_destroys_the_structure_within_and_between_channels(digits):
    real = digits.part("model")[0].repeat(1, 2, 1, 1)
    fake = matched(real, 1000, seed=0)
    assert neighbours(real) > 0.2
    assert abs(neighbours(fake)) < 0.012  # 3 standard errors at 112,000 pairs are .009
    assert abs(np.corrcoef(fake[:, 0].flatten(), fake[:, 1].flatten())[0, 1]) < 0.015
    assert real.double().mean(dim=0).std() > 60
    assert fake.double().mean(dim=0).std() < 5


def test_image_i_depends_on_the_seed_and_i_alone(digits):
    real = digits.part("model")[0]
    assert torch.equal(matched(real, 5, seed=3), matched(real, 50, seed=3)[:5])
    assert not torch.equal(matched(real, 5, seed=3), matched(real, 5, seed=4))


def test_refuses_nothing_to_match_and_floats():
    empty = torch.zeros(0, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="found n = 3 and 0 images"):
        matched(empty, 3, seed=0)
    with pytest.raises(ValueError, match="found n = 0"):
        matched(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 0, seed=0)
    with pytest.raises(ValueError, match="uint8"):
        matched(torch.zeros(1, 1, 8, 8), 1, seed=0)
