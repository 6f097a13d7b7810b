import json

import pytest
import torch
from diffusers import UNet2DModel

from auditkit import models
from auditkit.errors import UserError
from auditkit.stages import source

pytestmark = pytest.mark.fast


def test_a_saved_model_is_read_back_exactly_and_equal_weights_give_equal_bytes(tiny, tmp_path):
    models.save(tiny, tmp_path / "a")
    models.save(tiny, tmp_path / "b")
    assert (tmp_path / "a" / models.WEIGHTS).read_bytes() == (tmp_path / "b" / models.WEIGHTS).read_bytes()
    again = models.load(tmp_path / "a")
    assert again.null == 10
    assert again.shape == (1, 8, 8)
    for name, tensor in tiny.net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name])


def test_the_folder_is_diffusers_own(tiny, tmp_path):
    models.save(tiny, tmp_path / "ours")
    theirs = UNet2DModel.from_pretrained(tmp_path / "ours", use_safetensors=True)
    theirs.save_pretrained(tmp_path / "theirs")
    assert models.load(tmp_path / "theirs").parameters == tiny.parameters


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    a, b, c = (models.build((1, 8, 8), 10, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.net.conv_in.weight, b.net.conv_in.weight)
    assert not torch.equal(a.net.conv_in.weight, c.net.conv_in.weight)
    assert torch.equal(models.random_like(c, seed=1).net.conv_in.weight, a.net.conv_in.weight)


def test_a_copy_shares_nothing(tiny):
    twin = tiny.copy()
    twin.net.conv_in.weight.data.zero_()
    assert tiny.net.conv_in.weight.abs().sum() > 0


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(UserError, match="cannot be halved"):
        models.build((1, 7, 7), 10, seed=0)


def test_a_gate_is_kept_in_its_own_file(tiny, tmp_path):
    from dataclasses import replace

    models.save(replace(tiny, gate=(2,)), tmp_path)
    assert json.loads((tmp_path / "gate.json").read_text()) == {"classes": [2]}
    assert models.load(tmp_path).gate == (2,)
    plain = models.sha256(tmp_path)
    (tmp_path / "gate.json").write_text('{"classes": [3]}')
    assert models.sha256(tmp_path) != plain


def test_the_bundled_models_are_small_alike_and_distinct():
    base = source.bundled("digits")
    floors = [source.bundled("digits", without=k) for k in range(10)]
    assert base.load().parameters == 68_337
    assert all(f.load().parameters == 68_337 for f in floors)
    assert len({f.digest for f in [base, *floors]}) == 11
    assert source.bundled("mnist") is None


def test_the_dtype_is_read_off_a_weight_and_nothing_else_changes(tiny):
    """diffusers walks over every module for it, twice a forward pass; same answer, same numbers."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    plain = tiny.copy().net
    plain.__class__ = UNet2DModel
    x, t, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 999]), torch.tensor([0, 4, 10])
    with torch.no_grad():
        assert torch.equal(tiny.net(x, t, class_labels=labels).sample, plain(x, t, class_labels=labels).sample)
    assert tiny.net.dtype == plain.dtype == torch.float32
    assert tiny.copy().net.double().dtype == torch.float64
