"""A DiT on pixels as a denoiser; the reference is diffusers' own class."""

import json

import pytest
import torch
from diffusers import DiTTransformer2DModel

from auditkit import data, dit, models, sampling
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit.stages.aim import bypassed
from auditkit.stages.train import check_fits
from auditkit.unlearn import safemax

SMALL = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "patch_size": 2, "norm_num_groups": 1}


@pytest.fixture
def make_dit(tmp_path):
    """Diffusers' own network with random weights, saved by diffusers, and its folder."""

    def make(**options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            net = DiTTransformer2DModel(**{**SMALL, "in_channels": 1, "num_embeds_ada_norm": 10, **options}).eval()
        net.save_pretrained(tmp_path / "dit")
        return net, tmp_path / "dit"

    return make


@pytest.mark.parametrize("out_channels", [None, 1, 2])
def test_eps_is_diffusers_own_without_the_variance(make_dit, out_channels):
    theirs, folder = make_dit(out_channels=out_channels)
    model = models.load(folder)
    assert (model.null, model.shape) == (10, (1, 8, 8))
    x, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 10, 500, 999])
    labels = torch.tensor([0, 3, 9, 10])
    with torch.no_grad():
        wanted = theirs(x, t, class_labels=labels).sample
        got = model.net(x, t, class_labels=labels).sample
    assert torch.equal(got, wanted[:, :1])
    assert not torch.equal(got[2], model.net(x, t, class_labels=labels * 0).sample[2])


def test_no_label_is_dropped_in_training(make_dit):
    """Diffusers drops one in ten from torch's global generator; training here draws its own, keyed by seed and step."""
    theirs, folder = make_dit()
    model = models.load(folder)
    x, t, labels = torch.randn(400, 1, 8, 8), torch.full((400,), 500), torch.full((400,), 2)
    with torch.no_grad():
        expected = theirs(x, t, class_labels=labels).sample
        assert not torch.allclose(theirs.train()(x, t, class_labels=labels).sample, expected, atol=1e-5)
        state = torch.get_rng_state()
        assert torch.allclose(model.net.train()(x, t, class_labels=labels).sample, expected, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_saved_copied_drawn_anew_and_read_by_diffusers(make_dit, tmp_path):
    theirs, folder = make_dit(out_channels=2)
    model = models.load(folder)
    models.save(model, tmp_path / "ours")
    again = DiTTransformer2DModel.from_pretrained(tmp_path / "ours", use_safetensors=True)
    assert all(torch.equal(t, theirs.state_dict()[k]) for k, t in again.state_dict().items())
    x, t, labels = torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 1])
    with torch.no_grad():
        eps = [m.net(x, t, class_labels=labels).sample for m in (model, model.copy(), models.random_like(model, seed=1))]
    assert torch.equal(eps[0], eps[1])
    assert not torch.equal(eps[0], eps[2])


def test_it_is_sampled_and_unlearned_like_every_other(make_dit):
    _, folder = make_dit()
    model, digits = models.load(folder), data.load("digits")
    check_fits(model, digits, "it")
    before = model.copy()
    images = sampling.sample(model, torch.tensor([2, 10]), sampling.Sampler(steps=3), seed=0)
    assert images.shape == (2, 1, 8, 8)
    done = safemax.run(model, digits, (2,), safemax.Params(steps=2, batch=4), seed=0)
    moved = [not torch.equal(a, b) for a, b in zip(before.net.parameters(), done.net.parameters(), strict=True)]
    assert any(moved)


def test_every_block_has_a_class_table_and_none_stands_for_the_class(make_dit):
    _, folder = make_dit()
    model = models.load(folder)
    assert [t.shape for t in model.class_tables] == [(11, 16)] * 2
    with pytest.raises(UserError, match="has 2 class tables, one in every block"):
        _ = model.class_table
    assert not bypassed(model, 2)


def test_latents_need_a_vae(make_dit):
    _, folder = make_dit(in_channels=4)
    with pytest.raises(UserError, match="works on 4 latent channels and has no VAE: give the pipeline's folder"):
        check_fits(models.load(folder), data.load("digits"), "it")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_size": 10**6}, "sample_size = 1000000, which is no size"),
        ({"sample_size": 4096, "patch_size": 1}, "at most 16384 patches"),
        ({"sample_size": 9}, "wanted a divisor"),
        ({"out_channels": 3}, "out_channels = 3, wanted 1, or 2"),
        ({"num_layers": 10**9}, "num_layers = 1000000000"),
        ({"num_embeds_ada_norm": True}, "num_embeds_ada_norm = True"),
        ({"num_embeds_ada_norm": None}, "num_embeds_ada_norm = None, which is no size"),
        ({"num_embeds_ada_norm": 12}, "does not fit"),
        ({"norm_type": "layer_norm"}, "does not fit"),
        ({"activation_fn": "nothing"}, "does not fit"),
    ],
)
def test_a_bad_folder_is_refused(make_dit, changes, message):
    _, folder = make_dit()
    config = json.loads((folder / models.CONFIG).read_text())
    (folder / models.CONFIG).write_text(json.dumps({**config, **changes}))
    with pytest.raises(UserError) as error:
        source.named(str(folder), "subject")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_limits_of_a_config_are_those_of_the_class():
    assert dit.unfit({}) is None
