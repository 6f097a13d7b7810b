import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from auditkit import sampling, stages
from auditkit.errors import UserError
from auditkit.models import Model
from auditkit.sampling import Sampler, sample
from auditkit.solver import dpm_step
from auditkit.stages import source
from auditkit.stages.sample import _batches

LABELS = torch.tensor([2, 7, 0, 3, 2, 9, 10, 1])
OPTIONS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "trailing"}


def floats(model, sampler, labels=LABELS, seed=4, first=0):
    return sampling.denoise(model, labels, sampler, seed=seed, first=first, eps=sampling.network(model))


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("kind", ["ddim", "ddpm", "dpm"])
def test_image_i_does_not_depend_on_the_batch(base, batch, kind):
    """uint8 images may differ by one grey level where float32 rounding in the network crosses a half."""
    sampler = Sampler(kind=kind, steps=10)
    together = sample(base, LABELS, sampler, seed=4).int()
    apart = sample(base, LABELS, sampler, seed=4, batch=batch).int()
    assert (together - apart).abs().max() <= 1
    assert (together != apart).float().mean() < 0.002
    alone = sample(base, LABELS[5:6], sampler, seed=4, first=5).int()
    assert (alone - together[5:6]).abs().max() <= 1


@pytest.mark.parametrize("gate", [(), (7,)])
def test_several_classes_in_one_batch_are_what_each_is_alone(base, gate):
    model, sampler = Model(base.net, gate=gate), Sampler(steps=10)
    pieces = [(2, 4, 0, 5), (7, 5, 3, 4), (2, 4, 5, 1)]
    for (label, seed, first, n), images in zip(pieces, sampling.sample_several(model, pieces, sampler), strict=True):
        alone = sample(model, torch.full((n,), label), sampler, seed=seed, first=first).int()
        assert images.shape == alone.shape
        assert (images.int() - alone).abs().max() <= 1
    for noisy in (Sampler(kind="ddpm"), Sampler(eta=0.5)):
        with pytest.raises(ValueError, match="noise of its own"):
            sampling.sample_several(model, pieces, noisy)


@pytest.mark.parametrize(("device", "order"), [("cpu", "b0 f0 b1 f1 b2 f2"), ("cuda", "b0 b1 f0 b2 f1 f2")])
def test_on_a_gpu_the_next_batch_has_begun_before_the_last_is_asked_for(device, order):
    seen = []

    def begin(k):
        seen.append(f"b{k}")
        return lambda: (seen.append(f"f{k}"), k)[1]

    somewhere = SimpleNamespace(net=SimpleNamespace(device=torch.device(device)))
    assert list(sampling.one_ahead(map(begin, range(3)), somewhere)) == [0, 1, 2]
    assert seen == order.split()


def test_images_begun_ahead_are_the_same(base, monkeypatch, tmp_path):
    """Each batch waits for its own x_T, labels and gate, whatever was begun since."""
    model, sampler, real = Model(base.net, gate=(7,)), Sampler(steps=3), sampling.one_ahead
    plain = sample(model, LABELS, sampler, seed=4, batch=3)
    counts = {2: 300, 7: 220}
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "a"))
    whole = stages.sample(source.bundled("digits"), counts, sampler=Sampler(steps=2)).digest
    on_gpu = SimpleNamespace(net=SimpleNamespace(device=torch.device("cuda")))
    monkeypatch.setattr(sampling, "one_ahead", lambda begun, _: real(begun, on_gpu))
    assert torch.equal(sample(model, LABELS, sampler, seed=4, batch=3), plain)
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "b"))
    assert stages.sample(source.bundled("digits"), counts, sampler=Sampler(steps=2)).digest == whole


def test_what_is_missing_is_drawn_in_full_batches():
    counts, have = {2: 300, 5: 10, 7: 3}, {2: 0, 5: 4, 7: 3}
    assert list(_batches(counts, have, alone=False)) == [[(2, 0, 250)], [(2, 250, 50), (5, 4, 6)]]
    assert list(_batches(counts, have, alone=True)) == [[(2, 0, 250)], [(2, 250, 50)], [(5, 4, 6)]]


def test_two_seeds_and_two_indices_give_different_images(base):
    labels = torch.tensor([2, 2])
    a = sample(base, labels, Sampler(steps=10), seed=1)
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a, sample(base, labels, Sampler(steps=10), seed=2))


@pytest.mark.parametrize("steps", [10, 25, 50])  # for a number that does not divide 1000, diffusers steps to t - 1000 // n
@pytest.mark.parametrize("rederive", [True, False])
def test_ddim_equals_diffusers(base, steps, rederive):
    scheduler = DDIMScheduler(**OPTIONS, clip_sample=True, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    sampler = Sampler(steps=steps, rederive=rederive)
    assert sampler.timesteps == scheduler.timesteps.tolist()
    x = start(base)
    for t in scheduler.timesteps:
        x = scheduler.step(guided(base, x, t), t, x, use_clipped_model_output=rederive).prev_sample
    assert (floats(base, sampler) - x).abs().max() < 1e-5 * (1 if rederive else 100)


def test_ddpm_equals_diffusers_ancestral_step(base, monkeypatch):
    """diffusers draws its own noise: it is given ours."""
    from auditkit_kernels import philox

    scheduler = DDPMScheduler(**OPTIONS, clip_sample=True, variance_type="fixed_small")
    scheduler.set_timesteps(20)
    x = start(base)
    for k, t in enumerate(scheduler.timesteps):
        noise = philox.normal(x.shape, seed=4, stream=philox.SAMPLER, step=k)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, noise=noise, **k: noise)
        x = scheduler.step(guided(base, x, t), t, x).prev_sample
    assert (floats(base, Sampler(kind="ddpm", steps=20)) - x).abs().max() < 1e-5


def start(model):
    from auditkit_kernels import philox

    return philox.normal((len(LABELS), *model.shape), seed=4, stream=philox.X_T)


@torch.no_grad()
def guided(model, x, t):
    n = len(x)
    eps = model.net(torch.cat([x, x]), t, class_labels=torch.cat([LABELS, torch.full_like(LABELS, 10)])).sample
    return 2 * eps[:n] - eps[n:]


def test_guidance_zero_and_minus_one_need_one_branch_and_mean_what_they_say(base):
    null = torch.full_like(LABELS, base.null)
    assert torch.allclose(
        floats(base, Sampler(steps=5, guidance=-1.0)), floats(base, Sampler(steps=5, guidance=0.0), labels=null), atol=1e-5
    )
    assert Sampler(guidance=0.0).passes == 25
    assert Sampler(guidance=1.0).passes == 50


def test_the_gate_answers_queries_with_noise_and_nothing_else(base):
    gated = Model(base.net, gate=(2,))
    images, plain = sample(gated, LABELS, Sampler(steps=10), seed=4), sample(base, LABELS, Sampler(steps=10), seed=4)
    two = LABELS == 2
    assert torch.equal(images[~two], plain[~two])
    noise = images[two].numpy().reshape(2, -1) / 127.5 - 1
    assert abs(np.corrcoef(noise)[0, 1]) < 0.4
    assert 0.5 < noise.std() < 0.95  # N(0, 1) clamped to [-1, 1]: .72
    bare = sample(gated, LABELS, Sampler(steps=10), seed=4, eps=sampling.network(gated))
    assert torch.equal(bare, plain)


def test_matched_noise_is_made_from_the_same_seeds_without_the_class(base):
    forms = sampling.matched_noise(base, 2, 50, Sampler(), seed=4)
    assert set(forms) == {"eps=0", "eps=-w*null"}
    silent = forms["eps=0"]
    x_t = floats_of_start(base, 50)
    assert ((silent == 255) == (x_t > 0)).float().mean() > 0.98  # nearly sign(x_T)
    assert set(sampling.matched_noise(base, 2, 5, Sampler(guidance=0.0), seed=4)) == {"eps=0"}


def floats_of_start(model, n):
    from auditkit_kernels import philox

    return philox.normal((n, *model.shape), seed=4, stream=philox.X_T)


@pytest.mark.parametrize("bad", [{"kind": "euler"}, {"steps": 0}, {"steps": 1001}])
def test_a_sampler_that_cannot_work_is_refused(bad):
    with pytest.raises(UserError):
        Sampler(**bad)


def test_labels_outside_the_table_are_refused_before_the_network_sees_them(base):
    with pytest.raises(UserError, match=r"0\.\.10"):
        sample(base, torch.tensor([11]), Sampler(), seed=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers', with numpy 2
@pytest.mark.parametrize("steps", [5, 10, 25])
@pytest.mark.fast
def test_dpm_solver_equals_diffusers(base, steps):
    """Unclipped: diffusers' solver has no clipping of x_0."""
    scheduler = DPMSolverMultistepScheduler(**OPTIONS, solver_order=2, algorithm_type="dpmsolver++", final_sigmas_type="zero")
    scheduler.set_timesteps(steps)
    sampler = Sampler(kind="dpm", steps=steps, clip=False)
    assert sampler.timesteps == scheduler.timesteps.tolist()
    x = start(base)
    for t in scheduler.timesteps:
        x = scheduler.step(guided(base, x, t), t, x).prev_sample
    assert (floats(base, sampler) - x).abs().max() < 2e-4 * x.abs().max()


def test_dpm_solver_is_of_second_order():
    """On data N(0, 4) the exact eps and the exact path are known: with half the step the error falls to a quarter, not to a half."""

    def variance(a):
        return 4 * a + 1 - a

    def off(steps):
        levels = np.linspace(-2, 2, steps + 1)
        abar = (1 / (1 + np.exp(-2 * levels))).tolist()
        x, before = torch.full((1, 1, 1, 1), variance(abar[0]) ** 0.5, dtype=torch.float64), None
        for now, after in itertools.pairwise(abar):
            x, before = dpm_step(x, (1 - now) ** 0.5 * x / variance(now), now, after, clip=False, before=before)
        return abs(float(x) - variance(abar[-1]) ** 0.5)

    assert off(40) < 1e-3
    assert 3.4 < off(20) / off(40) < 4.6


def test_dpm_solver_keeps_x0_in_range_and_nan_visible(base):
    assert floats(base, Sampler(kind="dpm", steps=10)).abs().max() <= 1
    x, before = dpm_step(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), torch.nan), 0.5, 0.6)
    assert x.isnan().all()
    assert before.x0.isnan().all()
    with pytest.raises(UserError, match="eta is DDIM's; dpm adds none"):
        Sampler(kind="dpm", eta=0.5)
