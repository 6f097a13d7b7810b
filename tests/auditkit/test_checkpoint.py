"""Sets of weights inside foreign checkpoints."""

import pytest
import torch

from auditkit import checkpoint

pytestmark = pytest.mark.fast

WANTED = {"conv_in.weight": torch.zeros(2, 3), "out.bias": torch.zeros(4)}


def test_every_complete_set_is_found_by_its_prefix():
    tensors = {f"{p}{k}": t + 1 for p in ("", "module.", "ema/") for k, t in WANTED.items()}
    assert set(checkpoint.sets(tensors, WANTED)) == {"", "module.", "ema/"}


def test_a_set_of_other_shapes_or_with_a_gap_is_none():
    assert checkpoint.sets({"a.conv_in.weight": torch.zeros(3, 3), "a.out.bias": torch.zeros(4)}, WANTED) == {}
    assert checkpoint.sets({"a.conv_in.weight": torch.zeros(2, 3)}, WANTED) == {}


def test_numbered_optimizer_state_counts_in_the_order_of_the_parameters():
    tensors = {f"opt.state.{i}.exp_avg": t + i for i, t in enumerate(WANTED.values())}
    found = checkpoint.sets(tensors, WANTED)["opt.state.*.exp_avg"]
    assert float(found["out.bias"][0]) == 1


def test_a_name_that_only_ends_alike_is_no_prefix():
    assert checkpoint.sets({"xconv_in.weight": torch.zeros(2, 3), "xout.bias": torch.zeros(4)}, WANTED) == {}


def test_the_averages_of_diffusers_count_in_the_order_of_the_parameters():
    tensors = {f"shadow_params.{i}": t + i for i, t in enumerate(WANTED.values())}
    assert set(checkpoint.sets(tensors, WANTED)) == {"shadow_params.*"}


def test_names_that_repeat_the_mark_break_nothing():
    assert checkpoint.sets({"state.0.state.0.x": torch.zeros(1)}, WANTED) == {}
