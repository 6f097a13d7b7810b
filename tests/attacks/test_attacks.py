"""One contract for every attack; the table must equal the registry."""

import importlib
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from auditkit import data, models, sampling, training
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit_attacks import ATTACKS
from auditkit_attacks.curve import Schedule
from auditkit_attacks.target import Point, Target

SMALL = {"steps": 6, "batch": 8, "lrs": (5e-4,), "n": 10}
FAST = sampling.Sampler(steps=5)
# Each attack, the settings with which it must find a class hidden behind a permuted class row, and whether a model that
# never saw the class may pass by learning it (then it needs a floor).
TABLE = {
    "relearn": {"finds": {"steps": 60, "lrs": (5e-4,), "n": 40, "images": 50}, "learns": True},
    "finetune": {"finds": None, "learns": False},
}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def base():
    return source.bundled("digits").load()


def judge(digits):
    images, labels = digits.part("heldout")
    bank = images.flatten(1).float()
    return lambda found: labels[torch.cdist(found.flatten(1).float(), bank).argmin(1)]


def target(model, digits, seen=None):
    def images(kind):
        if seen is not None:
            seen.append(kind)
        return digits.part("model", torch.tensor([2]) if kind == "forget" else digits.others((2,)))

    def render(net, label, n, seed):
        return sampling.sample(net, torch.full((n,), label), FAST, seed=seed)

    return Target(
        forget=(2,),
        query=lambda label, n, seed: render(model, label, n, seed),
        render=render,
        score=lambda found: int((judge(digits)(found) == 2).sum()),
        network=replace(model, gate=()).copy,
        data=images,
    )


def run(name, model, digits, seed=0, **settings):
    module = importlib.import_module(ATTACKS[name])
    return module.run(target(model, digits), module.Budget(**settings), seed=seed)


def test_the_table_equals_the_registry():
    assert set(TABLE) == set(ATTACKS)


@pytest.mark.parametrize("name", ATTACKS)
def test_contract(name, base, digits):
    before = [t.clone() for t in base.net.state_dict().values()]
    first = run(name, base, digits, **SMALL)
    assert [p.step for p in first.curve] == [0, 1, 2, 5, 6]
    assert set(first.images) == {f"{p.setting}/{p.step}" for p in first.curve}
    assert all(images.dtype == torch.uint8 and images.shape == (10, 1, 8, 8) for images in first.images.values())
    assert all(torch.equal(a, b) for a, b in zip(before, base.net.state_dict().values(), strict=True)), "the target was changed"
    again = run(name, base, digits, **SMALL)
    assert again.curve == first.curve
    assert all(torch.equal(first.images[k], again.images[k]) for k in first.images)
    assert all(Point.model_validate_json(p.model_dump_json()) == p for p in first.curve)
    assert first.cost.evaluations == 3 * 6 * 8
    assert first.cost.sampled_images == 50


@pytest.mark.parametrize("name", ATTACKS)
def test_budget_is_frozen_and_refuses_what_cannot_work(name):
    budget = importlib.import_module(ATTACKS[name]).Budget
    with pytest.raises(FrozenInstanceError):
        budget().steps = 3
    assert all(f.kw_only for f in fields(budget))
    for bad in ({"steps": 0}, {"lrs": ()}, {"lrs": (float("nan"),)}, {"n": 0}, {"batch": 0}, {"class_dropout": 2}):
        with pytest.raises(UserError):
            budget(**bad)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_docstring_opens_with_the_threat_model_and_ends_with_the_source(name):
    doc = importlib.import_module(ATTACKS[name]).__doc__
    assert "Threat model:" in doc.splitlines()[0]
    assert "arxiv.org" in doc.split("Source")[-1]


@pytest.mark.parametrize("name", ATTACKS)
def test_killed_and_resumed_it_ends_with_the_same_images(name, base, digits):
    module = importlib.import_module(ATTACKS[name])
    budget = module.Budget(**{**SMALL, "lrs": (1e-4, 5e-4)})
    whole = module.run(target(base, digits), budget, seed=0)
    kept = []

    class KilledError(Exception):
        pass

    def die(step, _):
        if step == 6 + 4:  # in the second learning rate
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        with pytest.raises(KilledError):
            module.run(target(base, digits), budget, seed=0, save=lambda s: kept.append(clone(s)), report=die)
    resumed = module.run(target(base, digits), budget, seed=0, state=kept[-1])
    assert resumed.curve == whole.curve
    assert all(torch.equal(whole.images[k], resumed.images[k]) for k in whole.images)


def clone(state):
    return training.State(state.step, {k: t.clone() for k, t in state.tensors.items()})


def test_relearn_finds_what_was_only_hidden_and_a_gate_hides_nothing_from_it(base, digits):
    gated = models.Model(base.net, gate=(2,))
    assert target(gated, digits).score(target(gated, digits).query(2, 40, 0)) < 12
    result = run("relearn", gated, digits, **TABLE["relearn"]["finds"])
    assert result.curve[0].hits > 36, "the bare network was read at step 0"
    hidden = base.copy()
    table = hidden.net.class_embedding.weight.data
    table[2] = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(0))
    result = run("relearn", hidden, digits, **TABLE["relearn"]["finds"])
    random = run("relearn", models.random_like(base, seed=5), digits, **TABLE["relearn"]["finds"])
    early = {p.step: p.hits for p in result.curve}, {p.step: p.hits for p in random.curve}
    assert early[0][20] > early[1][20] + 8


def test_finetune_cannot_teach_a_class_that_was_never_there(base, digits):
    result = run("finetune", models.random_like(base, seed=5), digits, steps=40, lrs=(5e-4,), n=40)
    assert max(p.hits for p in result.curve) < 16


def test_finetune_never_asks_for_the_forgotten_class_and_relearn_for_nothing_else(base, digits):
    for name, kind in (("finetune", "retain"), ("relearn", "forget")):
        seen = []
        module = importlib.import_module(ATTACKS[name])
        module.run(target(base, digits, seen), module.Budget(**{**SMALL, "steps": 1}), seed=0)
        assert seen == [kind]
    assert run("finetune", base, digits, **{**SMALL, "steps": 1}).cost.forget_images == 0
    assert run("relearn", base, digits, **{**SMALL, "steps": 1, "images": 7}).cost.forget_images == 7


def test_more_images_than_the_attacker_can_have_are_refused(base, digits):
    with pytest.raises(UserError, match="only"):
        run("relearn", base, digits, **{**SMALL, "images": 500})


def test_the_points_of_a_curve():
    def points(steps):
        return Schedule(steps=steps, batch=1, lrs=(1.0,), n=1, class_dropout=0).points

    assert points(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    assert points(30) == (0, 1, 2, 5, 10, 20, 30)
    assert points(1) == (0, 1)
