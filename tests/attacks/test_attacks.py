"""One contract for every attack; the table must equal the registry."""

import importlib
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from auditkit import data, models, training
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit.stages.aim import aim
from auditkit.stages.attack import needs, reported
from auditkit.stages.plan import size_of
from auditkit.unlearn import safemax
from auditkit_attacks import ATTACKS, SUITES, costs, curve
from auditkit_attacks.costs import evaluations
from auditkit_attacks.curve import Schedule
from auditkit_attacks.expected import EXPECTED
from auditkit_attacks.plants import PLANTS
from auditkit_attacks.target import CHOSEN, TIERS, NotApplicable, Point

TRAINS = {"steps": 2, "batch": 4, "lrs": (5e-4,), "n": 4}
CHOOSES = {"explore": 2, "n": 4}
# Each attack with a budget that takes a second or two.
SMALL = {
    "repeat": CHOOSES,
    "null-harvest": CHOOSES,
    "wrong-label": CHOOSES,
    "guidance-sweep": CHOOSES,
    "sampler-sweep": CHOOSES,
    "partial": {"n": 4, "starts": (500, 900)},
    "arithmetic": CHOOSES,
    "handoff": CHOOSES,
    "readout": {"n": 4},
    "rescale": CHOOSES,
    "embedding": CHOOSES,
    "quantise": CHOOSES,
    "reversal": {**TRAINS, "made": 2},
    "finetune": TRAINS,
    "auxiliary": {**TRAINS, "made": 2},
    "inversion": TRAINS,
    "lora": TRAINS,
    "relearn": TRAINS,
    "relearn-all": TRAINS,
    "weights": {},
    "edit-depth": {"draws": 1, "levels": 2},
    "null-likelihood": {"draws": 1, "levels": 2},
    "membership": {"draws": 1, "levels": 2},
}
TRAINING = [name for name, budget in SMALL.items() if "lrs" in budget]


@pytest.fixture(autouse=True)
def few_kept(monkeypatch):
    """The look at the other classes costs more than a short attack."""
    monkeypatch.setattr(curve, "KEPT", 1)
    monkeypatch.setattr(costs, "KEPT", 1)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def base():
    return source.bundled("digits").load()


class Given:
    """A model in memory where a stage would load one."""

    def __init__(self, model):
        self.model = model

    def load(self):
        return replace(self.model.copy(), gate=self.model.gate)


def target(name, model, digits, label=2):
    tier = importlib.import_module(ATTACKS[name]).TIER
    loss = safemax.forget_loss(safemax.Params(), (label,), 10)
    given = Given(model)
    return aim(given, digits, (label,), tier=tier, pictures="pictures" in needs(name), loss=loss, original=Given(base_of()))


def base_of():
    return source.bundled("digits").load()


def run(name, model, digits, seed=0, **settings):
    module = importlib.import_module(ATTACKS[name])
    return module.run(target(name, model, digits), module.Budget(**{**SMALL[name], **settings}), seed=seed)


@pytest.mark.fast
def test_the_tables_equal_the_registry():
    assert set(SMALL) == set(ATTACKS) == set(EXPECTED)
    assert all(set(names) <= set(ATTACKS) for names in SUITES.values())
    assert all({p for p in plants} <= set(PLANTS) for plants in EXPECTED.values())
    assert all(any(kind == "MUST" for kind, _ in plants.values()) for plants in EXPECTED.values()), "every attack has a MUST"


@pytest.mark.parametrize("name", ATTACKS)
def test_contract(name, base, digits):
    before = [t.clone() for t in base.net.state_dict().values()]
    module, aimed = importlib.import_module(ATTACKS[name]), target(name, base, digits)
    budget = module.Budget(**SMALL[name])
    first = module.run(aimed, budget, seed=0)
    assert all(images.dtype == torch.uint8 and images.shape[1:] == (1, 8, 8) for images in first.images.values())
    assert all(torch.equal(a, b) for a, b in zip(before, base.net.state_dict().values(), strict=True)), "the target was changed"
    assert all(0 <= p.hits <= p.n for p in first.curve)
    shown = reported(list(first.curve))
    assert shown
    if first.images:
        assert {f"{p.setting}/{p.step}" for p in shown} <= set(first.images), "every reported point has its images"
        assert all(p.n == len(first.images[f"{p.setting}/{p.step}"]) for p in shown)
    paid = aimed.spent()
    if name in TRAINING:  # the meter counts the rows of a training step once, and they cost three
        paid += 2 * len({p.setting for p in first.curve}) * budget.steps * budget.batch
    assert evaluations(name, budget, size_of(digits, (2,))) == pytest.approx(paid, rel=0.25, abs=1), "its cost is known before it is paid"
    assert all(Point.model_validate_json(p.model_dump_json()) == p for p in first.curve)


@pytest.mark.parametrize("name", ATTACKS)
def test_budget_is_frozen_and_refuses_what_cannot_work(name):
    budget = importlib.import_module(ATTACKS[name]).Budget
    first = fields(budget)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(budget(), first, 3)
    assert all(f.kw_only for f in fields(budget))
    bad = {"steps": 0, "lrs": (), "n": 0, "batch": 0, "explore": 0, "class_dropout": 2, "draws": 0, "levels": 0}
    for setting, value in bad.items():
        if setting in {f.name for f in fields(budget)}:
            with pytest.raises(UserError):
                budget(**{setting: value})


@pytest.mark.parametrize("name", ATTACKS)
def test_the_docstring_opens_with_the_threat_model_and_ends_with_the_source(name):
    module = importlib.import_module(ATTACKS[name])
    assert "Threat model:" in module.__doc__.splitlines()[0]
    assert "arxiv.org" in module.__doc__.split("Source")[-1]
    assert module.TIER in TIERS


@pytest.mark.parametrize("name", [n for n in ATTACKS if importlib.import_module(ATTACKS[n]).TIER == "query"])
def test_an_attack_that_asks_is_given_nothing_else(name, base, digits):
    aimed = target(name, base, digits)
    assert aimed.eps is aimed.draw is aimed.render is aimed.network is aimed.loss is aimed.original is None
    assert (aimed.data is None) == ("pictures" not in needs(name))


def test_each_tier_gives_what_its_words_say(base, digits):
    def has(tier):
        aimed = aim(Given(base), digits, (2,), tier=tier)
        return [getattr(aimed, key) is not None for key in ("eps", "network", "data")]

    assert [has(t) for t in ("query", "sampler", "weights", "retain", "forget")] == [
        [False] * 3,
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [True, True, True],
    ]


@pytest.mark.parametrize("name", ["reversal", "weights"])
def test_what_cannot_be_mounted_says_so(name, base, digits):
    module = importlib.import_module(ATTACKS[name])
    with pytest.raises(NotApplicable):
        module.run(aim(Given(base), digits, (2,), tier=module.TIER), module.Budget(), seed=0)


def test_a_gate_meets_queries_and_nothing_else(base, digits):
    gated = models.Model(base.net, gate=(2,))
    assert run("repeat", gated, digits, n=30).curve[-1].hits < 10
    assert run("null-harvest", gated, digits, explore=20, n=200).curve[-1].hits > 6
    assert run("readout", gated, digits, n=10).images.keys()
    handed = run("handoff", gated, digits, explore=10, n=30)
    assert handed.curve[-1].hits > 20
    assert run("relearn", gated, digits).curve[0].hits == 4, "the bare network was read at step 0"


@pytest.mark.parametrize("name", [pytest.param("repeat", marks=pytest.mark.fast), "handoff", "embedding", "membership"])
def test_the_same_seed_gives_the_same_result(name, base, digits):
    first, again = run(name, base, digits), run(name, base, digits)
    assert again.curve == first.curve
    assert all(torch.equal(first.images[k], again.images[k]) for k in first.images)


@pytest.mark.parametrize("name", [pytest.param("relearn", marks=pytest.mark.fast), "reversal", "inversion", "lora"])
def test_killed_and_resumed_it_ends_with_the_same_images(name, base, digits):
    module = importlib.import_module(ATTACKS[name])
    budget = module.Budget(**{**SMALL[name], "steps": 4, **({} if name in ("inversion", "lora") else {"lrs": (1e-4, 5e-4)})})
    whole = module.run(target(name, base, digits), budget, seed=0)
    kept = []

    class KilledError(Exception):
        pass

    def die(step, _):
        if step == 4 + 3:  # in the second variant
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
        with pytest.raises(KilledError):
            module.run(target(name, base, digits), budget, seed=0, save=lambda s: kept.append(clone(s)), report=die)
    resumed = module.run(target(name, base, digits), budget, seed=0, state=kept[-1])
    assert resumed.curve == whole.curve
    assert all(torch.equal(whole.images[k], resumed.images[k]) for k in whole.images)


def clone(state):
    return training.State(state.step, {k: t.clone() for k, t in state.tensors.items()})


def test_choice_and_report_use_different_seeds(base, digits):
    aimed = target("repeat", base, digits)
    asked = []

    def query(label, n, seed, sampler=None, start=None):
        asked.append((n, seed))
        return aimed.query(label, n, seed)

    module = importlib.import_module(ATTACKS["repeat"])
    result = module.run(replace(aimed, query=query), module.Budget(explore=4, n=6), seed=7)
    (explored, first), (told, second) = asked
    assert (explored, told, second) == (4, 6, 7)
    assert first != second
    assert len(result.images[CHOSEN]) == 6


def test_finetune_cannot_teach_a_class_that_was_never_there(base, digits):
    result = run("finetune", models.random_like(base, seed=5), digits, steps=40, batch=64, n=40)
    assert max(p.hits for p in result.curve) < 16


def test_the_points_of_a_curve():
    def points(steps):
        return Schedule(steps=steps, batch=1, lrs=(1.0,), n=1).points

    assert points(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    assert points(30) == (0, 1, 2, 5, 10, 20, 30)
    assert points(1) == (0, 1)


def test_more_images_than_the_attacker_can_have_are_refused(base, digits):
    with pytest.raises(UserError, match="only"):
        run("relearn", base, digits, images=500)
