import math
import os
import signal

import pytest
import torch

from auditkit import data, precision, training
from auditkit.errors import UserError
from auditkit.unlearn import safemax


def rows(digits, n=16):
    images, labels = digits.part("model")
    x = data.to_model(images)

    def batches(step):
        x0, chosen = training.draw_rows(x, labels, n, seed=5, step=step)
        return training.Batch(x0, chosen, torch.zeros(n, dtype=torch.bool), torch.full((n,), 1 / n))

    return batches


def copy(state):
    """What a checkpoint on disk would hold: the loop goes on changing its tensors in place."""
    return training.State(state.step, {name: t.clone() for name, t in state.tensors.items()})


def weights(model):
    return b"".join(t.numpy().tobytes() for t in model.net.state_dict().values())


def test_rows_to_forget_are_the_first():
    x, labels, weight = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long), torch.full((4,), 0.25)
    for mask, n in (("1100", 2), ("0000", 0), ("1111", 4)):
        assert training.Batch(x, labels, torch.tensor([m == "1" for m in mask]), weight).n_forget == n
    with pytest.raises(ValueError, match="before all others"):
        _ = training.Batch(x, labels, torch.tensor([True, False, True, False]), weight).n_forget


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.fast
def test_a_resumed_run_ends_with_the_same_bytes(tiny, digits, ema):
    recipe = training.Recipe(steps=12, lr=1e-3, seed=5, schedule="cosine", ema=ema)
    whole, first, second = tiny.copy(), tiny.copy(), tiny.copy()
    training.fit(whole.net, rows(digits), recipe)
    kept = []

    def stop(step, _):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        training.fit(first.net, rows(digits), recipe, save=lambda s: kept.append(copy(s)), report=stop)
    state = kept[-1]
    assert state.step == 7  # the step that would have come next, saved once its weights had given a finite loss
    training.fit(second.net, rows(digits), recipe, state=state)
    assert weights(second) == weights(whole)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_last_checkpoint_is_good(tiny, digits):
    """One weight is made infinite during step 4; what was saved before holds no trace of it."""
    kept = []
    poison = next(tiny.net.parameters())

    def spoil(step, _):
        if step == 4:
            poison.data[0] = math.inf

    with pytest.raises(FloatingPointError, match="step 4"):
        training.fit(tiny.net, rows(digits), training.Recipe(steps=9, lr=1e-3, seed=5), save=lambda s: kept.append(copy(s)), report=spoil)
    assert 0 <= kept[-1].step <= 4
    assert all(torch.isfinite(t).all() for t in kept[-1].tensors.values())


def test_ema_is_the_average_of_the_weights_with_a_ramp(tiny, digits):
    """Two steps by hand: decay (1 + k) / (10 + k) for step k = 0, 1."""
    plain, averaged = tiny.copy(), tiny.copy()
    name, start = next((n, p.detach().clone()) for n, p in plain.net.named_parameters())
    seen = []
    batches = rows(digits)
    fits = {k: (lambda: seen.append(dict(plain.net.named_parameters())[name].detach().clone())) for k in (1, 2)}
    training.fit(plain.net, batches, training.Recipe(steps=2, lr=1e-3, seed=5), at=fits)
    training.fit(averaged.net, batches, training.Recipe(steps=2, lr=1e-3, seed=5, ema=0.999))
    expected = start
    for k, weight in enumerate(seen):
        decay = (1 + k) / (10 + k)
        expected = decay * expected + (1 - decay) * weight
    assert torch.allclose(dict(averaged.net.named_parameters())[name], expected, atol=1e-7)


def test_rows_are_keyed_by_seed_and_step_and_drawn_evenly():
    images, labels = torch.arange(10.0)[:, None], torch.arange(10)
    a, _ = training.draw_rows(images, labels, 4000, seed=1, step=3)
    b, _ = training.draw_rows(images, labels, 4000, seed=1, step=3)
    c, _ = training.draw_rows(images, labels, 4000, seed=1, step=4)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    counts = torch.bincount(a[:, 0].long(), minlength=10)
    assert counts.min() > 330  # 400 expected, 3.7 standard deviations


def test_dropped_labels_become_the_null_class_at_the_rate():
    labels = torch.full((5000,), 2)
    dropped = training.drop_labels(labels, 10, 0.1, seed=1, step=0)
    assert set(dropped.tolist()) == {2, 10}
    assert abs((dropped == 10).float().mean() - 0.1) < 0.015
    assert torch.equal(training.drop_labels(labels, 10, 0.0, seed=1, step=0), labels)


def test_the_cosine_cycle_warms_up_and_ends_at_zero():
    recipe = training.Recipe(steps=100, lr=1.0, seed=0, schedule="cosine")
    lrs = [recipe.lr_at(k) for k in range(100)]
    assert lrs[0] == pytest.approx(0.1)
    assert max(lrs) == lrs[10] == pytest.approx(1.0)
    assert lrs[-1] < 1e-3


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"lam": math.nan}, {"lam": -1}, {"lr": 0}, {"lr": math.inf}, {"target": "x"}, {"retain_class_dropout": 2}]
)
def test_settings_that_cannot_work_are_refused(bad):
    with pytest.raises(UserError):
        safemax.Params(**bad)


def test_lists_at_once_are_the_same_bits(tiny, monkeypatch):
    """AdamW of a small network on a CPU takes its tensors as lists, that of a large one takes each for itself."""

    def trained():
        net = tiny.copy().net
        parameters = dict(net.named_parameters())
        optimizer = training._optimizer(parameters, 1e-3, 0.01)
        for step in range(5):
            for k, p in enumerate(parameters.values()):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + k))
            optimizer.step()
        return optimizer.defaults["foreach"], [p.detach().clone() for p in parameters.values()]

    at_once, weights = trained()
    monkeypatch.setattr(precision, "LARGE", 1)
    single, same = trained()
    assert (at_once, single) == (True, None)
    assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))
