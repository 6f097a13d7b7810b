"""What comes before the first step is kept: killed anywhere, a method ends with the same bytes, and computes nothing twice."""

import pytest
import torch

from auditkit import training
from auditkit.unlearn import esd, preparing, safemax, salun, selective_amnesia

CASES = {
    "replay and Fisher": (selective_amnesia, {"replay": 7, "fisher_images": 4, "fisher_timesteps": 3}),
    "mask": (salun, {}),
    "images for SAFEMax": (safemax, {"forget_data": "generated"}),
    "images for ESD": (esd, {"forget_data": "generated"}),
}


class Killed(Exception):
    pass


def killed_at(k):
    """A `save` that keeps what it is given and ends the method at its k-th call, and where it keeps it."""
    held = []

    def save(state):
        held.append(training.State(state.step, {name: t.clone() for name, t in state.tensors.items()}))
        if len(held) == k:
            raise Killed

    return save, held


@pytest.fixture
def often(monkeypatch):
    """Every look at the clock writes a checkpoint, small pieces."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(preparing, "BATCH", 32)
    monkeypatch.setattr(safemax, "GENERATED", 70)
    monkeypatch.setattr(esd, "GENERATED", 70)
    monkeypatch.setattr(salun, "MASK_BATCH", 40)


@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_checkpoint_it_ends_with_the_same_weights_and_repeats_nothing(case, tiny, digits, often, monkeypatch):
    method, settings = CASES[case]
    params = method.Params(steps=2, batch=4, **settings)
    rows = []
    forward = type(tiny.net).forward
    monkeypatch.setattr(type(tiny.net), "forward", lambda self, x, *a, **k: rows.append(len(x)) or forward(self, x, *a, **k))
    save, held = killed_at(0)
    whole = method.run(tiny, digits, (2,), params, seed=3, save=save).net.state_dict()
    asked, before = sum(rows), sum(not any(n.startswith("weights/") for n in s.tensors) for s in held)
    assert before >= 3
    assert len(held) == before + params.steps
    for k in range(1, len(held) + 1):
        rows.clear()
        save, held = killed_at(k)
        with pytest.raises(Killed):
            method.run(tiny, digits, (2,), params, seed=3, save=save)
        again = method.run(tiny, digits, (2,), params, seed=3, state=held[-1]).net.state_dict()
        assert all(torch.equal(again[name], t) for name, t in whole.items())
        late = k > before  # the gradients of the step that was cut are computed again
        assert asked <= sum(rows) <= asked + late * 4 * params.batch


def test_without_a_checkpoint_it_starts_at_nothing():
    preparation = preparing.Preparation(None, None)
    done, total = preparation.sums("fisher", {"a": torch.ones(3)})
    assert done == 0
    assert torch.equal(total["a"], torch.zeros(3))
    assert preparation.state is None
    preparation.keep("fisher", 1, total)  # nowhere to write to
