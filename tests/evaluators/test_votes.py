"""check_images refuses what would be judged wrongly without a word; a judge of several sets keeps them apart."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from auditkit_evaluators import votes
from auditkit_evaluators.votes import check_images


def test_uint8_images_pass():
    x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert check_images(x) is x
    assert check_images(x, (1, 8, 8)) is x


@pytest.mark.parametrize(
    ("images", "shape", "message"),
    [
        (torch.zeros(2, 1, 8, 8), None, "expected images uint8 (B, C, H, W), found float32 (2, 1, 8, 8)"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), None, "found uint8 (1, 8, 8)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (1, 8, 8), "expected images uint8 (B, 1, 8, 8), found uint8 (2, 3, 8, 8)"),
    ],
)
def test_anything_else_is_refused_with_both_values(images, shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_images(images, shape)


@pytest.mark.parametrize(("at_once", "calls"), [(8000, 1), (70, 2), (1, 4)])
def test_several_sets_are_judged_together_and_told_apart(judges, digits, noise, monkeypatch, at_once, calls):
    """Each set gets what it would get alone; float32 networks differ by the rounding of another batch."""
    monkeypatch.setattr(votes, "AT_ONCE", at_once)
    sets = [digits.images[:40], noise[:30], noise[:0], noise[30:110]]
    clip, forest = judges["clip"], judges["forest"]
    for alone, together in zip(map(clip.judge, sets), clip.each(sets), strict=True):
        assert np.array_equal(alone.said, together.said)
        assert np.array_equal(alone.abstain, together.abstain)
        assert np.allclose(alone.probs, together.probs, atol=1e-6)
        if alone.features is not None:  # no images, no features
            assert np.allclose(alone.features, together.features, atol=1e-6)
            assert np.allclose(alone.similarity, together.similarity, atol=1e-6)
    asked = []
    counted = dataclasses.replace(forest, judge=lambda images: asked.append(len(images)) or forest.judge(images))
    assert [len(found.probs) for found in counted.each(sets)] == [40, 30, 0, 80]
    assert len(asked) == calls
    assert sum(asked) == 150
