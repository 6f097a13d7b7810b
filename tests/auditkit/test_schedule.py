"""A model that was trained with another schedule than ours is refused by field and value; files are written by diffusers itself."""

import json
import shutil

import diffusers
import pytest

from auditkit import models, schedule
from auditkit.errors import UserError
from auditkit.stages import source

pytestmark = pytest.mark.fast


def beside(folder, scheduler):
    """A model folder as a pipeline has it, with diffusers' own scheduler file in `scheduler` beside it."""
    scheduler.save_pretrained(folder / "scheduler")
    return folder / "unet"


@pytest.fixture
def unet(tiny, tmp_path):
    models.save(tiny, tmp_path / "pipe" / "unet")
    return tmp_path / "pipe"


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        ("DDIMScheduler", {"prediction_type": "v_prediction"}, "prediction_type = 'v_prediction', wanted 'epsilon'"),
        ("DDPMScheduler", {"prediction_type": "sample"}, "prediction_type = 'sample'"),
        ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule = 'squaredcos_cap_v2', wanted 'linear'"),
        ("PNDMScheduler", {"beta_schedule": "scaled_linear"}, "beta_schedule = 'scaled_linear'"),
        ("DDPMScheduler", {"num_train_timesteps": 100}, "num_train_timesteps = 100, wanted 1000"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type = 'continuous'"),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "prediction_type = 'flow_prediction'"),
        ("DDPMScheduler", {"variance_type": "learned_range"}, "variance_type = 'learned_range'"),
        ("DDPMScheduler", {"trained_betas": [0.1, 0.2]}, "trained_betas = [0.1, 0.2]"),
        ("FlowMatchEulerDiscreteScheduler", {}, "_class_name = 'FlowMatchEulerDiscreteScheduler'"),
        ("EDMEulerScheduler", {}, "_class_name = 'EDMEulerScheduler'"),
        ("LCMScheduler", {}, "_class_name = 'LCMScheduler'"),
        ("CogVideoXDDIMScheduler", {"beta_schedule": "linear"}, "_class_name = 'CogVideoXDDIMScheduler'"),
    ],
)
def test_a_schedule_that_is_not_ours_is_refused_by_field_and_value(unet, kind, options, field):
    folder = beside(unet, getattr(diffusers, kind)(**options))
    with pytest.raises(UserError) as refused:
        models.load(folder)
    assert field in str(refused.value)
    assert "scheduler_config.json has" in str(refused.value)


@pytest.mark.parametrize("kind", ["DDPM", "DDIM", "PNDM", "EulerDiscrete", "DPMSolverMultistep", "DEISMultistep", "UniPCMultistep"])
def test_the_class_is_its_owners_sampler_and_our_betas_are_read(unet, kind):
    folder = beside(unet, getattr(diffusers, f"{kind}Scheduler")(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"))
    assert models.load(folder).null == 10
    assert schedule.check(folder)


@pytest.mark.parametrize("place", ["unet", "unet/scheduler", ".", "scheduler", "noise_scheduler", "../scheduler"])
def test_every_place_of_a_scheduler_file_is_looked_at(unet, place):
    diffusers.DDPMScheduler(prediction_type="v_prediction").save_pretrained(unet / place)
    with pytest.raises(UserError, match="prediction_type"):
        models.load(unet / "unet")


def test_the_root_of_a_pipeline_speaks_for_its_checkpoints(unet):
    """A training run's own layout: checkpoint-500/unet_ema inside the folder that the pipeline was saved to."""
    (unet / "checkpoint-500").mkdir()
    shutil.move(unet / "unet", unet / "checkpoint-500" / "unet_ema")
    diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(unet)
    folder = unet / "checkpoint-500" / "unet_ema"
    assert not schedule.check(folder), "a file that lies two folders up is nobody's"
    (unet / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    with pytest.raises(UserError, match="beta_schedule"):
        schedule.check(folder)


def test_a_neighbours_schedule_is_its_own(unet, tiny):
    models.save(tiny, unet / "other")
    diffusers.DDPMScheduler(prediction_type="v_prediction").save_pretrained(unet / "other")
    assert not schedule.check(unet / "unet")


def test_a_link_that_leads_nowhere_and_a_field_in_the_networks_own_config_are_no_silence(unet, change_json):
    (unet / "scheduler").symlink_to(unet / "gone")
    with pytest.raises(UserError, match="scheduler is a symbolic link"):
        schedule.check(unet / "unet")
    (unet / "scheduler").unlink()
    change_json(unet / "unet" / models.CONFIG, prediction_type="v_prediction")
    with pytest.raises(UserError, match=r"config\.json has prediction_type = 'v_prediction'"):
        models.load(unet / "unet")


def test_a_folder_that_is_a_link_has_the_schedule_of_both_places(unet, tmp_path):
    folder = beside(unet, diffusers.DDPMScheduler(prediction_type="sample"))
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="prediction_type"):
        schedule.check(tmp_path / "link")


@pytest.mark.parametrize(
    ("field", "value"), [("predict_epsilon", False), ("beta_start", "0.0001"), ("beta_end", 0.012), ("snr_shift_scale", 3.0)]
)
def test_fields_of_older_and_other_files(unet, field, value):
    folder = beside(unet, diffusers.DDPMScheduler())
    path = unet / "scheduler" / schedule.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError, match=field):
        schedule.check(folder)


def test_what_is_assumed_is_said_and_what_is_read_is_not(unet, caplog):
    bare = source.named(str(unet / "unet"), "subject")
    assert bare.assumed is not None
    assert "assumed" in caplog.text
    caplog.clear()
    told = source.named(str(beside(unet, diffusers.DDPMScheduler())), "subject")
    assert told.assumed is None
    assert not caplog.text
    assert told.digest == bare.digest, "the schedule is ours either way"
    assert source.bundled("digits").assumed is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep', wanted None"),
        ({"class_embed_type": "identity"}, "class_embed_type = 'identity', wanted None"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier', wanted 'positional' or 'learned'"),
        ({"time_embedding_type": "learned", "num_train_timesteps": 100}, "num_train_timesteps = 100, wanted 1000"),
        ({"out_channels": 2}, "in_channels = 1 and out_channels = 2, wanted the same"),
        ({"num_class_embeds": None}, "has no class table"),
    ],
)
def test_a_network_that_is_told_other_things_is_refused_by_name(unet, change_json, changes, message):
    change_json(unet / "unet" / models.CONFIG, **changes)
    with pytest.raises(UserError) as refused:
        models.load(unet / "unet")
    assert message in str(refused.value)
