"""The folder of a pipeline is foreign: what is read of it, and what is refused, each in one line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditkit import latent, models, pipeline
from auditkit.errors import UserError
from auditkit.stages import source


def refusal(folder):
    """The one line with which a folder is refused."""
    with pytest.raises(UserError) as error:
        source.named(str(folder), "subject")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_as_they_were_published_first(make_pipeline, change_json, caplog):
    """Transformer2DModel with settings that the class lost, attention by its older names, a VAE config without a scale."""
    folder = make_pipeline()
    now = models.load(folder)
    change_json(folder / "transformer/config.json", _class_name="Transformer2DModel", double_self_attention=False, num_vector_embeds=7)
    change_json(folder / "vae/config.json", scaling_factor=None)
    path, old = folder / "vae" / models.WEIGHTS, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, was in old.items():
        tensors = {name.replace(f"attentions.0.{new}.", f"attentions.0.{was}."): t for name, t in tensors.items()}
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file({name: t.half() if "decoder" in name else t for name, t in tensors.items()}, path)
    caplog.clear()
    then = models.load(folder)
    assert caplog.records == []
    assert {t.dtype for t in then.codec.vae.state_dict().values()} == {torch.float32}
    x, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([1, 900]), torch.tensor([0, 3])
    with torch.no_grad():
        assert torch.equal(now.net(x, t, class_labels=labels).sample, then.net(x, t, class_labels=labels).sample)
    images = torch.randint(256, (2, 3, 16, 16)).to(torch.uint8)
    assert torch.equal(now.encode(images), then.encode(images))
    torch.testing.assert_close(now.codec.decode(x, x.device), then.codec.decode(x, x.device), atol=1e-2, rtol=0)


def test_a_folder_without_a_scheduler_is_read(make_pipeline):
    folder = make_pipeline()
    shutil.rmtree(folder / "scheduler")
    assert models.load(folder).codec


@pytest.mark.parametrize("link", ["model_index.json", "transformer", "vae", "scheduler", pipeline.SCHEDULE, *pipeline.PARTS])
def test_symbolic_links_are_refused(make_pipeline, link, tmp_path):
    folder = make_pipeline()
    (folder / link).rename(tmp_path / "elsewhere")
    (folder / link).symlink_to(tmp_path / "elsewhere")
    assert refusal(folder).startswith(f"{folder / link} is a symbolic link")
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    assert refusal(folder).startswith(f"{folder / link} is a symbolic link")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_pickle_is_never_opened(make_pipeline, part):
    folder = make_pipeline()
    weights = folder / part / models.WEIGHTS
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    assert models.load(folder).codec, "beside the safetensors it is not looked at"
    weights.unlink()
    assert refusal(folder).startswith(f"{folder / part} holds diffusion_pytorch_model.bin, a pickle, and no {models.WEIGHTS}")
    weights.with_suffix(".bin").rename(weights)
    assert "is a pickle, wanted safetensors" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"beta_schedule": "scaled_linear"},
            "beta_schedule = 'scaled_linear', wanted 'linear': a model trained with another noise",
        ),
        ({"beta_end": 0.012}, "beta_end = 0.012, wanted 0.02"),
        ({"beta_start": "0.0001"}, "beta_start = '0.0001', wanted 0.0001"),
        ({"num_train_timesteps": 4000}, "num_train_timesteps = 4000, wanted 1000"),
        ({"prediction_type": "v_prediction"}, "prediction_type = 'v_prediction', wanted 'epsilon'"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas = [0.1, 0.2], wanted None"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True, wanted False"),
        ({"beta_start": None}, "no beta_start, wanted 0.0001"),
    ],
)
def test_another_noise_schedule_is_refused(make_pipeline, change_json, changes, message):
    folder = make_pipeline()
    change_json(folder / pipeline.SCHEDULE, **changes)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "describes 'StableDiffusionPipeline', wanted a DiTPipeline"),
        ("model_index.json", {"id2label": ["a"]}, "id2label that is no table of names by label"),
        ("model_index.json", {"id2label": {"x": "a"}}, "id2label that is no table of names by label"),
        ("model_index.json", {"id2label": {"9" * 5000: "a"}}, "id2label that is no table of names by label"),
        ("model_index.json", {"id2label": {"0": 3}}, "id2label that is no table of names by label"),
        ("model_index.json", {"id2label": {"0": "a" * 2001}}, "id2label that is no table of names by label"),
        ("transformer/config.json", {"_class_name": "FluxTransformer2DModel"}, "describes FluxTransformer2DModel"),
        ("transformer/config.json", {"sample_size": 10**6}, "sample_size = 1000000, which is no size"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "_class_name = 'AutoencoderTiny', wanted AutoencoderKL"),
        ("vae/config.json", {"latent_channels": 16}, "latent_channels = 16, wanted 4, as many as the network has"),
        ("vae/config.json", {"block_out_channels": [8] * 9}, "wanted 1 to 8 whole numbers"),
        ("vae/config.json", {"block_out_channels": [8, 10**9]}, "wanted 1 to 8 whole numbers"),
        ("vae/config.json", {"block_out_channels": [8, True]}, "wanted 1 to 8 whole numbers"),
        ("vae/config.json", {"block_out_channels": 8}, "wanted 1 to 8 whole numbers"),
        ("vae/config.json", {"layers_per_block": 10**6}, "layers_per_block = 1000000, wanted 1 to 16"),
        ("vae/config.json", {"norm_num_groups": 3}, "norm_num_groups = 3, wanted a divisor of every width"),
        ("vae/config.json", {"norm_num_groups": 0}, "norm_num_groups = 0, wanted a divisor"),
        ("vae/config.json", {"down_block_types": ["DownBlock2D"] * 2}, "wanted DownEncoderBlock2D for every width"),
        ("vae/config.json", {"up_block_types": ["UpDecoderBlock2D"]}, "wanted UpDecoderBlock2D for every width"),
        ("vae/config.json", {"in_channels": 4, "out_channels": 4}, "in_channels = 4, wanted 1 or 3"),
        ("vae/config.json", {"out_channels": 1}, "in_channels = 3, wanted 1 or 3, as many as out_channels"),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor = 0, wanted a positive number"),
        ("vae/config.json", {"scaling_factor": 1e999}, "scaling_factor = inf, wanted a positive number"),
        ("vae/config.json", {"scaling_factor": 10**400}, "wanted a positive number"),
        ("vae/config.json", {"shift_factor": -(10**400)}, "wanted a number or none"),
        ("model_index.json", {"id2label": {"1": "a", "01": "b"}}, "id2label"),
        ("vae/config.json", {"shift_factor": "1"}, "shift_factor = '1', wanted a number or none"),
        ("vae/config.json", {"latents_mean": [0, 0, 0, 0]}, "latents_mean = [0, 0, 0, 0], wanted none"),
        ("vae/config.json", {"layers_per_block": 2}, "does not fit"),
        ("vae/config.json", {"act_fn": "nothing"}, "does not fit"),
        ("vae/config.json", {"sample_size": "big"}, "does not fit"),
    ],
)
def test_a_bad_config_is_refused(make_pipeline, change_json, file, changes, message):
    folder = make_pipeline()
    change_json(folder / file, **changes)
    assert message in refusal(folder)


def test_images_larger_than_any_are_refused(make_pipeline, change_json, monkeypatch):
    monkeypatch.setattr(models, "MAX_SIDE", 15)
    assert "makes images (3, 16, 16), larger than 15 pixels a side" in refusal(make_pipeline())


@pytest.mark.parametrize(("gone", "message"), [("transformer", "no model folder"), ("vae", "holds no VAE: it needs config.json")])
def test_a_missing_part_is_named(make_pipeline, gone, message):
    folder = make_pipeline()
    shutil.rmtree(folder / gone)
    assert message in refusal(folder)


def test_a_vae_of_nan_is_refused(make_pipeline):
    folder = make_pipeline()
    path = folder / "vae" / models.WEIGHTS
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"][0] = float("nan")
    save_file(tensors, path)
    assert "holds NaN or infinity in decoder.conv_out.bias" in refusal(folder)


def test_a_unet_in_a_pipeline_is_refused(make_pipeline, tiny):
    folder = make_pipeline()
    models.save(tiny, folder / "transformer")
    assert "describes a UNet2DModel, wanted a DiTTransformer2DModel" in refusal(folder)


def test_an_index_beside_a_network_is_nothing_to_a_pixel_model(tiny, tmp_path):
    models.save(tiny, tmp_path)
    before = models.sha256(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    assert models.load(tmp_path).shape == tiny.shape
    assert models.sha256(tmp_path) == before


def test_what_we_write_is_what_we_read(tmp_path):
    pipeline.write(tmp_path, {1: "one, uno"})
    assert pipeline.check(tmp_path) == {1: "one, uno"}
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == "DiTPipeline"


def test_the_limits_of_a_vae_are_those_of_the_class():
    assert latent.unfit({"_class_name": "AutoencoderKL"}, 4) is None
