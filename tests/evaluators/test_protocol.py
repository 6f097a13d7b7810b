"""The stretch is torchvision's, image by image; each protocol says where it leaves the publications."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from auditkit.data import SPLITS
from auditkit_evaluators.protocol import PROTOCOLS, stretch


@pytest.fixture
def images():
    rng = torch.Generator().manual_seed(0)
    low, high = torch.randint(0, 100, (40,), generator=rng), torch.randint(130, 256, (40,), generator=rng)
    x = torch.rand(40, 3, 8, 8, generator=rng) * (high - low)[:, None, None, None] + low[:, None, None, None]
    return x.round().to(torch.uint8)


def test_is_what_save_image_with_normalize_writes(images, tmp_path):
    for image, mine in zip(images[:10], stretch(images), strict=False):
        save_image(image.float() / 255, tmp_path / "one.png", normalize=True)
        theirs = np.asarray(Image.open(tmp_path / "one.png")).transpose(2, 0, 1).astype(int)
        assert np.abs(theirs - mine.int().numpy()).max() <= 1  # theirs rounds in float32


def test_each_image_fills_the_range_by_itself_and_channels_move_together(images):
    found = stretch(images)
    assert found.dtype == torch.uint8
    assert (found.amin(dim=(1, 2, 3)) == 0).all()
    assert (found.amax(dim=(1, 2, 3)) == 255).all()
    assert torch.equal(stretch(images[3:4]), found[3:4])
    assert (found.amin(dim=(2, 3)) > 0).any()  # not channel by channel
    assert torch.equal(stretch(found), found)


def test_noise_that_fills_the_range_is_unchanged_a_constant_is_black_and_none_is_none():
    noise = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert torch.equal(stretch(noise), noise)
    assert not stretch(torch.full((2, 1, 8, 8), 77, dtype=torch.uint8)).any()
    assert stretch(noise[:0]).shape == (0, 3, 32, 32)
    with pytest.raises(ValueError, match="uint8"):
        stretch(noise.float())


def test_stretching_after_rounding_stays_within_the_deviation_that_is_stated():
    rng = torch.Generator().manual_seed(2)
    x = torch.rand(200, 1, 8, 8, dtype=torch.float64, generator=rng) * 0.5 + 0.2
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    theirs = ((x - low) / (high - low) * 255 + 0.5).floor()
    mine = stretch((x * 255 + 0.5).floor().to(torch.uint8)).double()
    assert (theirs - mine).abs().max() < 1 + float((1 / (high - low)).max())


def test_two_protocols_and_what_they_are():
    assert PROTOCOLS.keys() == {"clean", "paper"}
    assert all(name == p.name and p.reference in SPLITS for name, p in PROTOCOLS.items())
    clean, paper = PROTOCOLS["clean"], PROTOCOLS["paper"]
    assert (clean.stretch, clean.reference) == (False, "heldout")
    assert (paper.stretch, paper.reference, paper.n, paper.retain_n) == (True, "model", 500, 500)
    for word in ("extractor", "BGR", "precision", "Inception Score", "500", "stretch", "ResNet34"):
        assert any(word in deviation for deviation in paper.deviations), word
