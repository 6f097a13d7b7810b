"""check_images refuses what would be judged wrongly without a word."""

import re

import pytest
import torch

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
