"""Selective Amnesia, ESD and DiMUM: each step is its formula, and each does to digits what its paper says."""

import importlib
import math

import pytest
import torch

from auditkit import data, diffusion, sampling, training
from auditkit.errors import UserError
from auditkit.unlearn import METHODS, dimum, esd, imitation, selective_amnesia
from auditkit_kernels import noising, philox

DECLARE = ("safemax", "salun", "selective-amnesia", "dimum", "random-label", "gradient-ascent")


def first_step(method, params, model, digits, monkeypatch, move=0.0):
    """What `fit` is given, and the gradients of its first step, the network moved by `move` from the original."""
    seen = {}

    def fit(net, batches, recipe, *, descend=training.denoise_step, **_):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(move)
        seen.update(batch=batches(0), net=net)
        seen["value"] = float(descend(net, seen["batch"], training.Loss(), diffusion.abar(), seed=0, step=0))
        seen["grads"] = {name: p.grad.clone() for name, p in net.named_parameters()}
        net.zero_grad()

    monkeypatch.setattr(training, "fit", fit)
    method.run(model, digits, (2,), params, seed=0)
    return seen


def said(seen):
    """x_t, t, eps of the step and the network's answer, with a graph."""
    batch = seen["batch"]
    t = training.timesteps(len(batch.x0), seed=0, step=0)
    x_t = noising(batch.x0, t, diffusion.abar(), seed=0, step=0)
    return x_t, t, philox.normal(batch.x0.shape, seed=0, stream=philox.EPS, step=0), seen["net"](x_t, t, class_labels=batch.labels).sample


def same(seen, total):
    torch.autograd.backward(total)
    assert seen["value"] == pytest.approx(float(total.detach()), rel=1e-4)
    for name, p in seen["net"].named_parameters():
        assert torch.allclose(seen["grads"][name], p.grad, atol=1e-5 + 1e-3 * float(p.grad.abs().max())), name


def test_selective_amnesias_step_is_its_formula_with_the_penalty(tiny, digits, monkeypatch):
    params = selective_amnesia.Params(batch=6, lam=0.5, gamma=0.7, replay=2, fisher_images=4, fisher_timesteps=5)
    fishers, real = [], selective_amnesia.fisher
    monkeypatch.setattr(selective_amnesia, "fisher", lambda *a, **k: fishers.append(real(*a, **k)) or fishers[0])
    seen = first_step(selective_amnesia, params, tiny, digits, monkeypatch, move=0.01)
    assert not seen["batch"].forget.any()
    _, _, eps, out = said(seen)
    penalty = sum(
        (fishers[0][name] * (p - q.detach()).square()).sum()
        for (name, p), q in zip(seen["net"].named_parameters(), tiny.net.parameters(), strict=True)
    )
    mean = (eps - out).square().flatten(1).mean(1)
    same(seen, mean[:6].mean() + 0.7 * mean[6:].mean() + 0.5 * 64 * penalty)
    assert float(penalty.detach()) > 0


def test_its_surrogates_are_uniform_and_its_replay_is_the_originals_own(tiny, digits, monkeypatch):
    drawn, real = [], sampling.sample
    monkeypatch.setattr(sampling, "sample", lambda *a, **k: drawn.append(real(*a, **k)) or drawn[0])
    monkeypatch.setattr(data.Dataset, "part", None)  # no real image is asked for
    params = selective_amnesia.Params(batch=300, lam=0, replay=3)
    batch = first_step(selective_amnesia, params, tiny, digits, monkeypatch)["batch"]
    u = batch.x0[:300].flatten()
    assert u.abs().max() <= 1
    assert abs(float(u.mean())) < 0.02
    assert float(u.square().mean()) == pytest.approx(1 / 3, abs=0.01)
    assert set(batch.labels[:300].tolist()) == {2}
    assert set(batch.labels[300:].tolist()) == set(range(10)) - {2}
    pool = {t.numpy().tobytes() for t in data.to_model(drawn[0])}
    assert {t.numpy().tobytes() for t in batch.x0[300:]} <= pool


@pytest.mark.parametrize("where", ["model", "unit"])
def test_fisher_squares_the_gradient_summed_over_timesteps(tiny, digits, where, monkeypatch):
    """By autograd, one timestep after the other, for two images; in chunks too."""
    images, _ = digits.part("model")
    x, chosen = data.to_model(images[:2]), torch.tensor([3, 7])
    params = selective_amnesia.Params(fisher_images=2, fisher_timesteps=5, fisher_range=where, fisher_class_dropout=0)
    monkeypatch.setattr(selective_amnesia, "FISHER_BATCH", 2)
    found = selective_amnesia.fisher(tiny, x, chosen, params, seed=1)
    expected = {name: torch.zeros_like(p) for name, p in tiny.net.named_parameters()}
    net = tiny.copy().net
    for k in range(2):
        net.zero_grad()
        step = selective_amnesia.FISHER_STEP + k
        for row, t in enumerate((0, 250, 500, 749, 999)):
            at = torch.tensor([t])
            clean = x[k : k + 1] if where == "model" else (x[k : k + 1] + 1) / 2
            x_t = noising(clean, at, diffusion.abar(), seed=1, step=step, row0=row)
            eps = philox.normal((1, 1, 8, 8), seed=1, stream=philox.EPS, step=step, row0=row)
            torch.autograd.backward(200 * (eps - net(x_t, at, class_labels=chosen[k : k + 1]).sample).square().mean())
        for name, p in net.named_parameters():
            expected[name] += p.grad.square() / 2
    t = torch.linspace(0, 999, 5, dtype=torch.float64).round().long().tolist()
    assert t in ([0, 250, 500, 749, 999], [0, 250, 499, 749, 999], [0, 250, 500, 750, 999])
    for name, wanted in expected.items():
        assert torch.allclose(found[name], wanted, rtol=0.05, atol=1e-2 * float(wanted.max()) + 1e-6), name


def test_fisher_images_are_of_every_class_in_turn():
    labels = torch.arange(10).repeat_interleave(5)
    assert sorted(labels[selective_amnesia._spread(labels, 20)].tolist()) == sorted([*range(10), *range(10)])


def test_esds_step_points_away_from_the_class(tiny, digits, monkeypatch):
    seen = first_step(esd, esd.Params(batch=6, eta=1.5, alpha=0.5), tiny, digits, monkeypatch, move=0.01)
    batch = seen["batch"]
    assert batch.forget[:6].all()
    assert not batch.forget[6:].any()
    x_t, t, eps, out = said(seen)
    with torch.no_grad():
        conditional = tiny.net(x_t[:6], t[:6], class_labels=torch.full((6,), 2)).sample
        null = tiny.net(x_t[:6], t[:6], class_labels=torch.full((6,), 10)).sample
    wanted = null - 1.5 * (conditional - null)
    same(seen, (out[:6] - wanted).square().mean() + 0.5 * (eps[6:] - out[6:]).square().mean())


def test_dimum_memorises_a_few_images_of_the_next_class(tiny, digits, monkeypatch):
    params = dimum.Params(batch=200, alternatives=5)
    batch = first_step(dimum, params, tiny, digits, monkeypatch)["batch"]
    images, _ = digits.part("model", torch.tensor([3]))
    pool = {t.numpy().tobytes() for t in data.to_model(images)}
    used = {t.numpy().tobytes() for t in batch.x0[:200]}
    assert len(used) == 5
    assert used <= pool
    assert set(batch.labels[:200].tolist()) == {2}
    everywhere = dimum._alternatives(*digits.part("model", digits.others((2,))), 2, (2,), 10, dimum.Params(from_="others"), 0)
    assert len(everywhere) == 32


def test_several_classes_each_have_their_alternatives(tiny, digits, monkeypatch):
    seen = {}
    monkeypatch.setattr(training, "fit", lambda net, batches, recipe, **_: seen.update(batch=batches(0)))
    dimum.run(tiny, digits, (2, 5), dimum.Params(batch=400, alternatives=3), seed=0)
    pairs = {(int(c), x.numpy().tobytes()) for x, c in zip(seen["batch"].x0[:400], seen["batch"].labels[:400], strict=True)}
    assert [sum(c == k for c, _ in pairs) for k in (2, 5)] == [3, 3]


def test_imitation_leaves_the_other_rows_to_the_ordinary_loss(tiny, digits):
    """With nothing to forget it is the ordinary step."""
    images, labels = digits.part("model")
    batch = training.Batch(data.to_model(images[:4]), labels[:4], torch.zeros(4, dtype=torch.bool), torch.full((4,), 0.25))
    grads = []
    for step in (training.denoise_step, imitation.imitating(imitation.under(torch.arange(11)))):
        net = tiny.copy().net
        step(net, batch, training.Loss(), diffusion.abar(), seed=0, step=3)
        grads.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("name", DECLARE)
def test_what_a_method_declares_is_what_it_does(name, tiny, digits, monkeypatch):
    """The declared loss has the gradient of the method's own forget rows: an attacker who climbs it climbs the right thing."""
    method = importlib.import_module(METHODS[name])
    seen = {}

    def fit(net, batches, recipe, *, loss=None, descend=training.denoise_step, **_):
        seen.update(batch=batches(0), loss=loss or training.Loss(), descend=descend)

    monkeypatch.setattr(training, "fit", fit)
    extra = {"replay": 2, "lam": 0, "fisher_images": 1} if name == "selective-amnesia" else {}
    params = method.Params(batch=6, **extra)
    method.run(tiny, digits, (2,), params, seed=0)
    declared, batch = method.forget_loss(params, (2,), 10), seen["batch"]
    first = torch.arange(len(batch.labels)) < 6
    only = training.Batch(batch.x0, batch.labels, first & declared.marked, torch.where(first, batch.weight, torch.zeros(())))
    assert torch.equal(only.forget, batch.forget)
    assert math.copysign(1, float(batch.weight[0])) == declared.sign
    grads = []
    for loss, step in ((seen["loss"], seen["descend"]), (declared.loss, declared.descend)):
        net = tiny.copy().net
        step(net, only, loss, diffusion.abar(), seed=0, step=0)
        grads.append([p.grad for p in net.parameters()])
    assert any(bool(g.any()) for g in grads[0])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*grads, strict=True))
    flat = batch.x0[:6].flatten(1)
    held = "uniform" if float(flat.std()) < 0.62 and len(set(flat.flatten().tolist())) > 300 else "images"
    assert (declared.held == "uniform") == (held == "uniform")


def test_esd_declares_the_distance_to_the_null_branch(tiny, digits):
    """The attacker has no original to ask."""
    images, labels = digits.part("model", torch.tensor([2]))
    batch = training.Batch(data.to_model(images[:4]), labels[:4], torch.ones(4, dtype=torch.bool), torch.full((4,), 0.25))
    declared, net = esd.forget_loss(esd.Params(), (2,), 10), tiny.copy().net
    value = declared.descend(net, batch, declared.loss, diffusion.abar(), seed=0, step=0)
    t = training.timesteps(4, seed=0, step=0)
    x_t = noising(batch.x0, t, diffusion.abar(), seed=0, step=0)
    with torch.no_grad():
        off = net(x_t, t, class_labels=batch.labels).sample - net(x_t, t, class_labels=torch.full((4,), 10)).sample
    assert float(value) == pytest.approx(float(off.square().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        (selective_amnesia, {"fisher_range": "units"}, "fisher range"),
        (selective_amnesia, {"fisher_timesteps": 1001}, "at most 1000"),
        (selective_amnesia, {"replay": 0}, "--replay"),
        (selective_amnesia, {"lam": math.nan}, "--lam"),
        (selective_amnesia, {"ema": 1.0}, "--ema"),
        (esd, {"eta": -1.0}, "--eta"),
        (esd, {"forget_data": "noise"}, "forget data"),
        (dimum, {"alternatives": 0}, "--alternatives"),
        (dimum, {"from_": "noise"}, "from"),
        (dimum, {"lr": math.inf}, "--lr"),
    ],
)
def test_unfit_settings_are_refused(method, settings, words):
    with pytest.raises(UserError, match=words):
        method.Params(**settings)


def test_costs_add_up():
    assert selective_amnesia.costs(selective_amnesia.Params(), 88, 10) == {"replay": 50000, "fisher": 15000, "training": 153600}
    assert selective_amnesia.costs(selective_amnesia.Params(lam=0), 88, 10)["fisher"] == 0
    assert esd.costs(esd.Params(), 88, 10) == {"generated images": 0, "training": 102400}
