"""A model in latents; the reference is diffusers' own pipeline, VAE and schedulers."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline
from diffusers.pipelines.dit import pipeline_dit
from safetensors.torch import load_file, save_file

from auditkit import data, latent, models, pipeline, rundir, sampling, stages
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit.stages.aim import aim, bypassed
from auditkit.stages.cost import estimate
from auditkit.stages.sample import images as images_of
from auditkit.stages.train import check_fits
from auditkit.unlearn import METHODS, retrain, rows, safemax
from auditkit_attacks import module_of, plants
from auditkit_kernels import philox

SHORT = {"steps": 2, "batch": 4}
METHOD_PARAMS = {
    "safemax": SHORT,
    "salun": SHORT,
    "selective-amnesia": {**SHORT, "replay": 2, "fisher_images": 2, "fisher_timesteps": 2},
    "esd": SHORT,
    "dimum": SHORT,
    "random-label": SHORT,
    "gradient-ascent": SHORT,
    "gate": {},
    "retrain": {**SHORT, "lr": 1e-3},
}
TRAINS = {"steps": 2, "batch": 4, "lrs": (5e-4,), "n": 4}
# One of each way in which an attack meets images: trains on them, starts at them, watches x_0-hat, measures, makes its own, asks a gate.
ATTACK_PARAMS = {
    "relearn": {**TRAINS, "images": 5},
    "finetune": TRAINS,
    "reversal": {**TRAINS, "made": 2},
    "auxiliary": {**TRAINS, "made": 2},
    "partial": {"n": 4, "starts": (500,)},
    "readout": {"n": 4},
    "rescale": {"explore": 2, "n": 4},
    "null-likelihood": {"draws": 1, "levels": 2},
    "membership": {"draws": 1, "levels": 2},
    "edit-depth": {"draws": 1, "levels": 2},
}


@pytest.fixture
def noisy(pack, tmp_path):
    """The name of a data set of three classes, 3 x 16 x 16."""
    pack(tmp_path / "colours.npz", each=100)
    return f"pack:{tmp_path / 'colours.npz'}"


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_it_samples_what_diffusers_own_pipeline_does(make_pipeline, monkeypatch, w):
    folder = make_pipeline(classes=1000)  # their null class is 1000, whatever the config says
    model, labels = models.load(folder), torch.tensor([3, 999])
    assert (model.null, model.shape, model.image_shape) == (1000, (4, 8, 8), (3, 16, 16))
    theirs = DiTPipeline.from_pretrained(folder, use_safetensors=True)
    theirs.scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    theirs.set_progress_bar_config(disable=True)
    x = philox.normal((2, 4, 8, 8), seed=7, stream=philox.X_T)
    monkeypatch.setattr(pipeline_dit, "randn_tensor", lambda shape, **_: x)
    wanted = theirs(labels.tolist(), guidance_scale=1 + w, num_inference_steps=10, output_type="pt").images
    how = sampling.Sampler(steps=10, guidance=w)
    got = model.codec.decode(sampling.denoise(model, labels, how, seed=7, first=0), torch.device("cpu"))
    torch.testing.assert_close((got / 2 + 0.5).clamp(0, 1), wanted, atol=1e-5, rtol=0)
    drawn = sampling.sample(model, labels, how, seed=7)
    assert torch.equal(drawn, data.to_uint8(got))
    assert drawn.shape == (2, 3, 16, 16)
    assert got.std() > 0.01


@pytest.mark.parametrize("shift", [None, 0.3])
def test_encode_is_the_scaled_mean_of_the_posterior_whatever_the_batches(make_pipeline, monkeypatch, shift):
    folder = make_pipeline(vae={"scaling_factor": 0.7, "shift_factor": shift})
    model, theirs = models.load(folder), AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True)
    images = torch.randint(256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        wanted = (theirs.encode(images.float() / 127.5 - 1).latent_dist.mean - (shift or 0)) * 0.7
        back = theirs.decode(wanted / 0.7 + (shift or 0)).sample
    whole = model.encode(images)
    assert (whole.dtype, whole.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(whole, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.codec.decode(whole, torch.device("cpu")), back, atol=1e-5, rtol=0)
    seen = []
    model.codec.vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    model.codec.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(latent, "PIXELS", 2 * 16 * 16)
    torch.testing.assert_close(model.encode(images), wanted, atol=1e-6, rtol=0)
    assert model.decode(whole).shape == images.shape
    assert seen == [2, 2, 1] * 2


def test_pixel_models_are_encoded_and_decoded_as_ever(tiny):
    images = torch.arange(256).to(torch.uint8).reshape(4, 1, 8, 8)
    assert torch.equal(tiny.encode(images), data.to_model(images))
    assert torch.equal(tiny.decode(tiny.encode(images)), images)
    assert tiny.image_shape == tiny.shape


def test_nan_is_refused_after_the_decoder_too(make_pipeline):
    model = models.load(make_pipeline())
    with pytest.raises(FloatingPointError, match="the model has diverged"):
        model.decode(torch.full((1, 4, 8, 8), float("nan")))


def test_latents_are_never_clipped(make_pipeline):
    model = models.load(make_pipeline())
    made = [sampling.denoise(model, torch.tensor([0, 1]), sampling.Sampler(steps=4, clip=clip), seed=0, first=0) for clip in (True, False)]
    assert torch.equal(*made)
    assert float(made[0].abs().max()) > 1.5
    pixels = sampling.denoise(replace(model, codec=None), torch.tensor([0]), sampling.Sampler(steps=4), seed=0, first=0)
    assert float(pixels.abs().max()) <= 1


def test_what_is_saved_loads_again_and_generates_the_same(make_pipeline, tmp_path):
    model = models.load(make_pipeline(names={"0": "tench, Tinca tinca", "1": "goldfish", "2": "shark"}))
    gated = replace(model, gate=(1,))
    models.save(gated, tmp_path / "a")
    again = models.load(tmp_path / "a")
    models.save(again, tmp_path / "b")
    assert models.sha256(tmp_path / "a") == models.sha256(tmp_path / "b")
    assert (again.gate, again.names) == ((1,), {0: "tench, Tinca tinca", 1: "goldfish", 2: "shark"})
    labels = torch.tensor([0, 1, 2, 3])
    first, second = (sampling.sample(m, labels, sampling.Sampler(steps=3), seed=0) for m in (gated, again))
    assert torch.equal(first, second)
    theirs = DiTPipeline.from_pretrained(tmp_path / "a", use_safetensors=True)
    assert theirs.labels["goldfish"] == 1
    theirs.save_pretrained(tmp_path / "c")
    assert torch.equal(sampling.sample(models.load(tmp_path / "c"), labels[:1], sampling.Sampler(steps=3), seed=0), first[:1])


def test_the_vae_is_part_of_the_digest_and_of_the_random_floors(make_pipeline):
    folder = make_pipeline()
    before = models.sha256(folder), models.blank_sha256(folder)
    path = folder / "vae" / models.WEIGHTS
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    assert all(a != b for a, b in zip(before, (models.sha256(folder), models.blank_sha256(folder)), strict=True))


def test_a_random_network_and_copies_keep_the_codec(make_pipeline):
    model = models.load(make_pipeline())
    blank = models.random_like(model, seed=1)
    assert blank.codec is model.codec
    assert model.copy().codec is model.codec
    assert not torch.equal(blank.net.proj_out_2.weight, model.net.proj_out_2.weight)
    assert not any(p.requires_grad for p in model.codec.vae.parameters())
    assert estimate(model, evaluations=1, images=10, n=1, models=1).disk_bytes == 7680 + 4 * (model.parameters + model.codec.parameters)


def test_a_gate_in_latents_gives_decoded_noise(make_pipeline):
    model = replace(models.load(make_pipeline()), gate=(1,))
    x = philox.normal((2, 4, 8, 8), seed=0, stream=philox.X_T)
    images = sampling.sample(model, torch.tensor([0, 1]), sampling.Sampler(steps=2), seed=0)
    assert torch.equal(images[1], model.decode(x)[1])
    assert not torch.equal(images[0], model.decode(x)[0])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_unlearns_it(make_pipeline, noisy, method):
    folder = make_pipeline()
    original = models.load(folder)
    run = stages.unlearn(method, (1,), data_name=noisy, original=str(folder), params=METHOD_PARAMS[method])
    who = source.named(run.name, "subject")
    model = who.load()
    assert model.image_shape == (3, 16, 16)
    same = [torch.equal(a, b) for a, b in zip(model.net.parameters(), original.net.parameters(), strict=True)]
    assert all(same) == (method == "gate")
    assert all(torch.equal(a, b) for a, b in zip(model.codec.vae.parameters(), original.codec.vae.parameters(), strict=True))
    assert {f"model/{name}" for name in pipeline.FILES} <= set(run.result.files), "the run holds all that it generates with"
    assert who.digest == run.digest


@pytest.mark.parametrize("forget_data", ["generated", "noise"])
def test_safemax_needs_no_image(make_pipeline, noisy, forget_data):
    params = {**SHORT, "forget_data": forget_data}
    run = stages.unlearn("safemax", (1,), data_name=noisy, original=str(make_pipeline()), params=params)
    assert source.named(run.name, "subject").load().shape == (4, 8, 8)


def test_it_trains_on_the_encoded_images(make_pipeline, noisy, monkeypatch):
    """The rows that reach the network are x_0 of the data set, by the VAE."""
    model, dataset, given = models.load(make_pipeline()), data.load(noisy), []
    fits = {"forget": dataset.part("model", torch.tensor([1]))[0], "retain": dataset.part("model", dataset.others((1,)))[0]}
    mixed = rows.mixed
    monkeypatch.setattr(rows, "mixed", lambda forget, retain, **rest: given.extend((forget[0], retain[0])) or mixed(forget, retain, **rest))
    safemax.run(model, dataset, (1,), safemax.Params(steps=1, batch=2), seed=0)
    assert torch.equal(given[0], model.encode(fits["forget"]))
    assert torch.equal(given[1], model.encode(fits["retain"]))
    seen = []
    monkeypatch.setattr(retrain.training, "fit", lambda net, batches, recipe, **_: seen.append(batches(0).x0))
    retrain.run(model, dataset, (1,), retrain.Params(steps=1, batch=8), seed=0)
    assert all(any(torch.equal(row, x) for x in given[1]) for row in seen[0])


@pytest.mark.parametrize("name", ATTACK_PARAMS)
def test_attacks_meet_images_and_states_each_in_its_place(make_pipeline, noisy, name):
    folder, dataset, module = make_pipeline(), data.load(noisy), module_of(name)
    who, of = source.named(str(folder), "subject"), (1,)
    loss = safemax.forget_loss(safemax.Params(), (1,), 3) if name == "reversal" else None
    target = aim(who, dataset, of, tier=module.TIER, pictures=True, loss=loss)
    assert (target.shape, target.image_shape) == ((4, 8, 8), (3, 16, 16))
    result = module.run(target, module.Budget(**ATTACK_PARAMS[name]), seed=0)
    assert result.curve
    assert all(images.shape[1:] == (3, 16, 16) and images.dtype == torch.uint8 for images in result.images.values())


def test_one_row_stands_for_no_class_and_attacks_on_it_say_so(make_pipeline):
    model = models.load(make_pipeline())
    with pytest.raises(UserError, match="has 2 class tables"):
        _ = model.class_table
    assert not bypassed(model, 1)


def test_a_leak_is_planted_in_latents(make_pipeline, noisy, monkeypatch):
    """What it trains on are the encoded images of each kind under their labels, forgotten ones first."""
    model, dataset, made = models.load(make_pipeline()), data.load(noisy), []
    monkeypatch.setattr(plants.training, "fit", lambda net, rows, recipe: made.append(rows(0)))
    parts = {"forget": torch.tensor([1]), "retain": dataset.others((1,))}
    planted = plants.plant("lora-gate", model, 1, lambda kind: dataset.part("model", parts[kind]), 0)
    assert planted.codec is model.codec
    ((x, labels, forget),) = [(batch.x0.flatten(1), batch.labels, batch.forget) for batch in made]
    for mask, kind in ((forget, "forget"), (~forget, "retain")):
        images, asked = dataset.part("model", parts[kind])
        apart = torch.cdist(x[mask], model.encode(images).flatten(1))
        assert apart.min(dim=1).values.max() < 1e-3 < apart.median()
        assert torch.equal(labels[mask], asked[apart.argmin(dim=1)])
    assert forget[:48].all()
    assert not forget[48:].any()


def test_the_whole_way_from_unlearning_to_export(make_pipeline, noisy, tmp_path):
    folder = make_pipeline()
    run = stages.unlearn("safemax", (1,), data_name=noisy, original=str(folder), params=SHORT)
    attacked = stages.attack("relearn", data_name=noisy, original=str(folder), params={**ATTACK_PARAMS["relearn"]})
    assert attacked.read_json("attack.json")["cells"].keys() == {"subject", "random", "original", "gate"}
    assert attacked.read_json("attack.json")["failed"] == {}
    drawn = stages.sample(source.named(run.name, "subject"), {0: 3, 1: 3}, data_name=noisy, noise_for=(1,))
    assert {t.shape for t in images_of(drawn).values()} == {(3, 3, 16, 16)}
    found = stages.scan(run.name, (1,), original=None, data_name=noisy, n=4)
    assert [row["weights"] for row in found["rows"]] == ["model/transformer/diffusion_pytorch_model.safetensors: weights"]
    assert found["complete"], "the numbers of its VAE are accounted for"
    beside = stages.scan(str(run.path / "model/transformer" / models.WEIGHTS), (1,), data_name=noisy, n=4)
    rates = [[row["rate"]["value"] for row in rows] for rows in (beside["rows"], found["rows"])]
    assert rates[0] == rates[1], "its VAE is found beside it"
    out = stages.export(run.name, str(tmp_path / "out"))
    assert models.sha256(tmp_path / "out") == out["digest"] == models.sha256(rundir.find(run.name).path / "model")
    with pytest.raises(UserError, match="the peers' form has names only"):
        stages.export(run.name, str(tmp_path / "ckpt.pth"), form="peer")


def test_data_of_another_size_or_order_of_classes_are_refused(make_pipeline, pack, tmp_path):
    model = models.load(make_pipeline())
    with pytest.raises(UserError, match=r"^it makes images \(3, 16, 16\) of 3 classes, but digits has \(1, 8, 8\) and 10$"):
        check_fits(model, data.load("digits"), "it")
    pack(tmp_path / "colours.npz", each=100)
    colours = data.load(f"pack:{tmp_path / 'colours.npz'}")
    check_fits(replace(model, names={0: "colour-0", 2: "x, Colour-2"}), colours, "it")
    with pytest.raises(UserError, match=r"class 1 of pack-.* is 'colour-1', which is class 2 of it: both need one order of classes"):
        check_fits(replace(model, names={0: "colour-0", 2: "Colour-1, another"}), colours, "it")
