"""Patches find what a picture holds wherever it lies, also under noise; the same seed gives the same judge."""

import numpy as np
import pytest
import torch

from auditkit import data
from auditkit_evaluators import ensemble, panel, patches


def stripes(n, seed):
    """Colour images of 16 x 16 pixels: stripes of three directions, in random place and colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    labels = np.arange(n) % 3
    waves = [(y, x, x + y)[k] * 2 * np.pi / 6 + rng.uniform(0, 2 * np.pi) for k in labels]
    made = np.stack([rng.uniform(0.4, 1, (3, 1, 1)) * np.sin(wave)[None] for wave in waves])
    return data.to_uint8(torch.from_numpy(made)), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def known():
    return stripes(240, 0)


@pytest.fixture(scope="module", autouse=True)
def few():
    """Fewer pieces are fitted in less time, and are enough for stripes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "PIECES", 60)
        patch.setattr(patches, "DRAWN", 5000)
        yield


@pytest.fixture(scope="module")
def judge(known, few):
    return patches.fit(*known, 3, 0)[0]


def test_it_knows_stripes_also_under_noise(judge):
    """The classic judges' pixels, averaged down to 8 x 8, and a linear rule do not know them: their place is random."""
    images, labels = stripes(150, 1)
    for a, least in ((1.0, 0.95), (0.75, 0.9), (0.5, 0.8)):
        logits, _ = judge(panel.ladder(images, a, 2))
        assert (logits.argmax(axis=1) == labels.numpy()).mean() >= least, a


def test_shapes_and_batches(judge):
    images, _ = stripes(20, 3)
    logits, features = judge(images)
    assert logits.shape == (20, 3)
    assert features.shape[0] == 20
    assert features.shape[1] <= patches.STRANGE
    assert logits.dtype == features.dtype == np.float64
    single = [judge(image[None]) for image in images]
    np.testing.assert_allclose(np.concatenate([s[0] for s in single]), logits, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([s[1] for s in single]), features, atol=1e-3)


def test_the_same_seed_gives_the_same_judge_and_the_hash_follows_the_weights(known, judge):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, sha = patches.fit(*known, 3, 0)
    assert torch.equal(torch.get_rng_state(), before)
    images, _ = stripes(10, 4)
    np.testing.assert_array_equal(again(images)[0], judge(images)[0])
    assert sha == judge.sha
    assert patches.fit(*known, 3, 1)[1] != sha


def test_digits_keep_their_six_judges_unless_it_is_named(digits, members):
    assert [judge.name for judge in members] == [name for name in ensemble.MEMBERS if name != "patches"]
    [alone] = ensemble.build(digits, only=("patches",))
    images, labels = digits.part("heldout")
    assert (alone.judge(images).said == labels.numpy()).mean() > 0.9
    assert (alone.family, alone.space) == ("patches", "patches")
