"""The step on fixed buffers is the ordinary step; on a GPU its recording too."""

import gc

import pytest
import torch

from auditkit import captured, data, diffusion, sampling, training
from auditkit.bench import nets
from auditkit.unlearn import esd, imitation, salun, selective_amnesia

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs --device cuda and a GPU"))
STEPS = 12


def work_on(model, device):
    model = model.copy()
    model.net.to(device)
    return nets.Work(model, 4, 8, 1e-3)


def recorded(work, *, start=0, mask=None, steps=STEPS, lr=1e-3):
    """The losses of `steps` steps on fixed buffers, and the weights after them."""
    net = work.model.copy().net.train()
    parameters = dict(net.named_parameters())
    device = next(net.parameters()).device
    loss = training.Loss(diffusion.psi(1.0, device=device))
    optimizer = captured.optimizer_for(parameters, lr, 0.0)
    step_ = captured.Captured(net, parameters, optimizer, loss, diffusion.abar(device), clip=1.0, start=start, mask=mask)
    for step in range(start, steps):
        step_(work.batches(step), training.Recipe(steps=steps, lr=lr, seed=0).lr_at(step), seed=0, step=step)
    return step_.look(), net


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_same_loss_curve_as_the_plain_loop(tiny, device):
    work = work_on(tiny, device)
    plain_net = work.model.copy().net
    plain = training.fit(plain_net, work.batches, training.Recipe(steps=STEPS, lr=1e-3, seed=0), loss=training.Loss(diffusion.psi(1.0)))
    found, net = recorded(work)
    assert found == pytest.approx(plain, rel=1e-4)
    for a, b in zip(net.parameters(), plain_net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert found[0] != found[-1]


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_masked_weights_stay(tiny, device):
    work = work_on(tiny, device)
    mask = {name: torch.arange(p.numel()).reshape(p.shape) % 2 == 0 for name, p in work.model.net.named_parameters()}
    _, net = recorded(work, mask=mask)
    for (name, p), q in zip(net.named_parameters(), work.model.net.parameters(), strict=True):
        assert not (p != q)[~mask[name].to(p.device)].any(), name


def test_a_loss_that_is_not_finite_is_named_by_its_step(tiny):
    work = work_on(tiny, "cpu")
    with pytest.raises(FloatingPointError, match=r"at step \d+: training diverged"):
        recorded(work, lr=1e30, steps=40)


def test_rows_of_another_shape_are_refused(tiny):
    work = work_on(tiny, "cpu")
    net = work.model.copy().net
    parameters = dict(net.named_parameters())
    optimizer = captured.optimizer_for(parameters, 1e-3, 0.0)
    step_ = captured.Captured(net, parameters, optimizer, training.Loss(), diffusion.abar(), clip=1.0)
    step_(work.batches(0), 1e-3, seed=0, step=0)
    batch = work.batches(1)
    with pytest.raises(ValueError, match="same rows to forget"):
        step_(training.Batch(batch.x0, batch.labels, ~batch.forget, batch.weight), 1e-3, seed=0, step=1)
    with pytest.raises(ValueError, match="as in the first step"):
        step_(training.Batch(batch.x0[:2], batch.labels[:2], batch.forget[:2], batch.weight[:2]), 1e-3, seed=0, step=1)


def test_it_is_off_unless_asked_for_on_a_gpu(monkeypatch):
    gpu, plain = torch.device("cuda"), training.denoise_step
    monkeypatch.delenv("AUDITKIT_CAPTURE", raising=False)
    assert not captured.wanted(gpu, plain)
    monkeypatch.setenv("AUDITKIT_CAPTURE", "1")
    assert captured.wanted(gpu, plain)
    assert not captured.wanted(torch.device("cpu"), plain)
    assert captured.wanted(gpu, imitation.imitating(lambda *_: None))
    assert not captured.wanted(gpu, lambda net, batch, loss, abar, *, seed, step: None)  # a plug-in's own, which draws timesteps itself


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_training_with_it_resumes_and_ends_alike(tiny, device, monkeypatch):
    """`fit` itself, the recording switched on: checkpoints, looks, averages."""
    work = work_on(tiny, device)
    recipe = training.Recipe(steps=8, lr=1e-3, seed=0, ema=0.9)
    plain = training.fit(work.model.copy().net, work.batches, recipe)
    monkeypatch.setattr(captured, "wanted", lambda *_: True)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    saves, looks = [], []
    first = work.model.copy().net
    at = {k: (lambda k=k: looks.append(k)) for k in (0, 3, 8)}
    found = training.fit(first, work.batches, recipe, save=lambda s: saves.append(copied(s)), at=at)
    assert looks == [0, 3, 8]
    assert found == pytest.approx(plain, rel=1e-4)
    second = work.model.copy().net
    rest = training.fit(second, work.batches, recipe, state=saves[4])
    assert rest == pytest.approx(plain[4:], rel=1e-4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    ("method", "more"),
    [(salun, {}), (salun, {"objective": "ga"}), (esd, {}), (selective_amnesia, {"replay": 4, "fisher_images": 2, "fisher_timesteps": 3})],
)
def test_every_method_of_one_step_is_the_same_recorded(tiny, device, method, more, monkeypatch):
    """Steps with a second forward, a teacher, a mask or a penalty: weights after the recording are those without."""
    dataset, start = data.load("digits"), work_on(tiny, device).model
    params = method.Params(steps=8, batch=4, lr=1e-3, **more)
    plain = method.run(start, dataset, (2,), params, seed=0)
    kept, made = captured.Captured.__init__, []
    monkeypatch.setattr(captured.Captured, "__init__", lambda self, *a, **k: (made.append(self), kept(self, *a, **k))[1])
    monkeypatch.setattr(captured, "wanted", lambda *_: True)
    found = method.run(start, dataset, (2,), params, seed=0)
    assert [step_.done for step_ in made] == [8]
    for p, q in zip(found.net.parameters(), plain.net.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-4)
    assert any((p - before).abs().max() > 1e-3 for p, before in zip(found.net.parameters(), start.net.parameters(), strict=True))


def copied(state):
    return training.State(state.step, {name: t.clone() for name, t in state.tensors.items()})


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    "how", [{}, {"kind": "dpm", "steps": 6}, {"kind": "ddpm", "steps": 6}, {"guidance": 0.0, "steps": 5}, {"eta": 0.5, "steps": 5}]
)
def test_the_recorded_sampler_makes_the_same_images(tiny, device, how, monkeypatch):
    """Four batches: one runs, one is recorded, two are replayed; noise of its own is that of each image's key."""
    model = tiny.copy()
    model.net.to(device)
    labels, sampler = torch.arange(20) % 10, sampling.Sampler(**{"steps": 8, **how})
    plain = sampling.sample(model, labels, sampler, seed=3, batch=5)
    monkeypatch.setattr(captured, "sampling_wanted", lambda *_: True)
    found = sampling.sample(model, labels, sampler, seed=3, batch=5)
    (recording,) = captured._RECORDED[model.net].values()
    assert recording.calls == 4
    assert (found.int() - plain.int()).abs().max() <= (0 if device == "cpu" else 1)
    with torch.no_grad():
        model.net.conv_out.weight.mul_(1.5)  # a recording reads the weights where they lie
    again = sampling.sample(model, labels, sampler, seed=3, batch=5)
    assert not torch.equal(again, found)


def test_a_recording_dies_with_its_network(tiny, monkeypatch):
    monkeypatch.setattr(captured, "sampling_wanted", lambda *_: True)
    model = tiny.copy()
    sampling.sample(model, torch.arange(4), sampling.Sampler(steps=2), seed=0)
    before = len(captured._RECORDED)
    del model
    gc.collect()
    assert len(captured._RECORDED) == before - 1


def test_a_network_that_is_counted_is_not_recorded(tiny, monkeypatch):
    monkeypatch.setenv("AUDITKIT_CAPTURE", "1")
    model, gpu = tiny.copy(), torch.device("cuda")
    assert captured.sampling_wanted(model.net, gpu)
    model.net.register_forward_hook(lambda *_: None)
    assert not captured.sampling_wanted(model.net, gpu)
