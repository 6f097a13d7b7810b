"""Suites and the selftest end to end, with lists of two or three attacks."""

import importlib
import json
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditkit import data, models, rundir, stages
from auditkit.cli import run
from auditkit.errors import UserError
from auditkit.stages import flags, heldout, source
from auditkit.stages.aim import aim, bypassed
from auditkit.stages.attack import CURVE, cell
from auditkit.stages.selftest import known, validated
from auditkit_attacks import ATTACKS, SUITES, grid, plants

SUITE = sys.modules["auditkit.stages.suite"]  # the package holds a function of that name
LINEUP = sys.modules["auditkit.stages.lineup"]
MINI = ("repeat", "readout", "weights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("suite") / "runs"


@pytest.fixture
def mini(folder, monkeypatch):
    """A suite of three cheap attacks, all said to be validated."""
    monkeypatch.setenv("AUDITKIT_RUNS", str(folder))
    monkeypatch.setitem(SUITES, "quick", MINI)
    monkeypatch.setattr(SUITE, "known", lambda asked, _: (dict.fromkeys(ATTACKS, True), dict.fromkeys(ATTACKS, asked)))


def test_the_gate_is_gated_and_its_break_has_a_cost(mini):
    stages.unlearn("gate", (2,))
    record = stages.suite("quick").read_json("suite.json")
    rows = {row["attack"]: row for row in record["rows"]}
    assert record["verdict"]["word"] == "GATED"
    assert record["verdict"]["cheapest"] == "readout"
    assert rows["readout"]["excess"]["low"] > 0.5
    assert rows["readout"]["notes"] == ["gate removed at step 0: it stands in front of the network, not in it"]
    assert not rows["repeat"]["broken"], "asking meets the gate"
    assert all(m["value"] > 0.9 for m in rows["repeat"]["rates"]["original"].values())
    assert "svc" not in record["judges"], "the attacker chooses by one of that family"
    assert all(
        m["n"] >= 100 and m["low"] is not None
        for row in record["rows"]
        if row["attack"] != "weights"
        for r in row["rates"].values()
        for m in r.values()
    )
    assert rows["readout"]["cost"]["evaluations"] == 100 * 50
    assert "Not tried: null-harvest" in record["scope"]
    assert rundir.pointed("latest").request.stage == "suite"


def test_a_retrained_model_is_not_broken_and_not_called_removed(mini):
    model = str(source.ZOO / "digits-without-2")
    record = stages.suite("quick", model=model, original=str(source.ZOO / "digits"), classes=(2,)).read_json("suite.json")
    assert record["verdict"]["word"] == "UNDECIDED"
    assert not any(row["broken"] for row in record["rows"])
    assert any("not tried" in why for why in record["verdict"]["why"])
    assert any("trained model" in why for why in record["verdict"]["why"])


def test_what_is_not_validated_breaks_nothing(mini, monkeypatch):
    monkeypatch.setattr(SUITE, "known", lambda asked, _: ({}, {}))
    stages.unlearn("gate", (2,))
    record = stages.suite("quick").read_json("suite.json")
    assert record["verdict"]["word"] == "UNDECIDED"
    assert "readout broke it, but is not validated" in record["verdict"]["why"]
    assert {f["attack"] for f in record["flags"] if f["text"].startswith("not validated")} == set(MINI)


def test_a_model_that_makes_nothing_is_flagged_and_never_ranked(mini, tmp_path):
    broken = models.random_like(source.bundled("digits").load(), seed=1)
    models.save(broken, tmp_path / "broken")
    record = stages.suite("quick", model=str(tmp_path / "broken"), original=str(source.ZOO / "digits"), classes=(2,)).read_json(
        "suite.json"
    )
    assert record["verdict"]["word"] == "UNDECIDED"
    assert "it is broken, not resilient" in record["verdict"]["why"][0]


def test_where_the_original_never_saw_the_class_a_break_says_nothing(mini, tmp_path):
    """A subject from which the row is read out, beside an original that was trained without the class: only asking could still count."""
    stages.unlearn("gate", (2,))
    record = stages.suite("quick", original=str(source.ZOO / "digits-without-2")).read_json("suite.json")
    assert not record["control"]["passed"]
    assert next(row for row in record["rows"] if row["attack"] == "readout")["broken"]
    assert record["verdict"]["word"] == "UNDECIDED"
    assert record["verdict"]["cheapest"] is None
    assert record["verdict"]["why"][0].startswith("these attacks say nothing about forgetting: the original itself shows")
    plain = stages.suite("quick", model=str(source.ZOO / "digits"), original=str(source.ZOO / "digits-without-2"), classes=(2,))
    assert plain.read_json("suite.json")["verdict"]["word"] == "GATED", "what is shown when asked is there"


def test_weights_that_overflow_are_not_measured(mini, tmp_path):
    huge = source.bundled("digits").load().copy()
    with torch.no_grad():
        huge.net.conv_out.weight.mul_(1e38)
    models.save(huge, tmp_path / "huge")
    record = cell("repeat", source.named(str(tmp_path / "huge"), "subject"), (2,), "digits", {"explore": 4, "n": 4}, 0).read_json(CURVE)
    assert record["curve"] == []
    assert "NaN or infinity" in record["failed"]


def test_a_class_row_that_does_not_matter_is_seen():
    base = source.bundled("digits").load()
    assert not bypassed(base, 2)
    silent = plants.plant("low-gain", base, 2, None, 0)
    silent.net.planted_gain = 0.0
    assert bypassed(silent, 2)


def test_copies_are_told_from_recoveries(digits):
    images, _ = digits.part("model", torch.tensor([2]))
    given, fresh = images[:40], heldout.unseen(digits, (2,))
    assert heldout.copied(given[:30], given, fresh).low > flags.COPIES
    others = digits.part("judges", torch.tensor([2]))[0]
    assert heldout.copied(others, given, fresh[-40:]).low < flags.COPIES


def test_who_memorised_covers_what_he_was_given_and_little_else(digits):
    """Slightly noisy copies of 20 pictures, alone and with noise among them, against other real pictures of the class."""
    images, _ = digits.part("model", torch.tensor([2]))
    given, fresh = images[:20], heldout.unseen(digits, (2,))
    drawn = torch.Generator().manual_seed(0)
    shake = torch.randint(-2, 3, (100, 1, 8, 8), generator=drawn)
    copies = (given.repeat(5, 1, 1, 1).int() + shake).clamp(0, 255).to(torch.uint8)
    noise = 255 * torch.randint(0, 2, (40, 1, 8, 8), generator=drawn, dtype=torch.uint8)
    assert heldout.coverage(copies, given, "").value == 1
    few = heldout.coverage(copies, fresh, "").value
    assert heldout.coverage(torch.cat([copies, noise]), fresh, "").value == few < 0.6, "noise covers nothing"
    assert heldout.coverage(noise, fresh, "").value == 0
    assert heldout.coverage(images, fresh, "").value > 0.85, "real pictures cover real pictures"


def test_suites_have_no_settings(mini, capsys):
    assert run(["attack", "quick", "--steps", "5"]) == 2
    assert "a suite has no settings" in " ".join(capsys.readouterr().err.split())
    assert run(["attack", "repeat", "--seeds", "2", "--model", str(source.ZOO / "digits"), "--class", "2"]) == 2
    with pytest.raises(UserError, match="--seeds takes 1 to 100"):
        stages.suite("quick", model=str(source.ZOO / "digits"), classes=(2,), seeds=0)


def test_the_command_prints_the_verdict_and_its_cost(mini, capsys):
    stages.unlearn("gate", (2,))
    assert run(["attack", "quick", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"]["word"] == "GATED"
    assert "GATED: broken by readout" in " ".join(err.split())
    assert "0 images of the class, 5,000 network evaluations" in " ".join(err.split())


def test_the_list_names_every_attack_with_tier_and_cost(capsys):
    assert run(["attack", "--list", "--json"]) == 0
    listed = {row["attack"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(ATTACKS)
    assert listed["repeat"]["tier"] == "query"
    assert all(row["evaluations"] > 0 for name, row in listed.items() if name != "weights")
    assert run(["attack", "--list"]) == 0


def test_the_selftest_finds_the_plant_and_the_clean_control_finds_nothing(mini):
    record = stages.selftest(("readout",)).read_json("selftest.json")
    rows = {row["plant"]: row for row in record["rows"]}
    assert rows["late-gate"]["kind"] == "MUST"
    assert rows["late-gate"]["broken"]
    assert rows["again"]["kind"] == "CLEAN"
    assert not rows["again"]["broken"]
    assert record["validated"] == {"readout": True, "scan": True}


def test_an_attack_that_misses_its_plant_is_not_validated(mini, monkeypatch):
    monkeypatch.setattr(plants, "VERSION", 1000)
    monkeypatch.setitem(plants.PLANTS, "late-gate", lambda model, label, images, seed: models.random_like(model, seed=9))
    record = stages.selftest(("readout",)).read_json("selftest.json")
    assert record["validated"]["readout"] is False


def test_what_a_selftest_says_is_remembered(folder, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(folder))
    stages.selftest(("readout",))
    digits = data.load("digits")
    assert known(2, digits) == ({"readout": True, "scan": True}, {"readout": 2, "scan": 2})
    says, planted = known(5, digits)
    assert says["readout"]
    assert planted["readout"] == 2, "validated in another class: a flag says so"
    assert known(2, replace(digits, sha256="0"))[1]["readout"] == -1, "a class of other data is another class"


@pytest.fixture
def checkpoint(tmp_path):
    """SAFEMax-like weights (random ones) with an average that is still the original, and Adam's moments."""
    base = source.bundled("digits").load()
    raw = models.random_like(base, seed=4).net.state_dict()
    tensors = {f"weights/{k}": t.clone() for k, t in raw.items()} | {f"average/{k}": t.clone() for k, t in base.net.state_dict().items()}
    path = tmp_path / "checkpoint.safetensors"
    save_file(tensors, path)
    return path


def test_scan_finds_the_class_in_the_average_and_not_in_the_raw_weights(checkpoint):
    record = stages.scan(str(checkpoint), (2,), n=40)
    rows = {row["weights"].split(": ")[1]: row for row in record["rows"]}
    assert rows["average/"]["still"]
    assert rows["average/"]["rate"]["value"] > 0.9
    assert not rows["weights/"]["still"]
    assert record["still"][0].endswith("average/")


def test_scan_reads_the_lists_that_the_field_saves_and_nothing_that_runs(tmp_path, checkpoint):
    tensors = load_file(checkpoint)
    raw = {k: tensors[f"weights/{k}"] for k, _ in source.bundled("digits").load().net.named_parameters()}
    ema = {f"module.{k.removeprefix('average/')}": t for k, t in tensors.items() if k.startswith("average/")}
    state = {i: {"step": torch.tensor(3.0), "exp_avg": t, "exp_avg_sq": t.square()} for i, t in enumerate(raw.values())}
    torch.save([raw, {"state": state, "param_groups": []}, 7, ema], tmp_path / "ckpt.pth")
    record = stages.scan(str(tmp_path / "ckpt.pth"), (2,), n=20)
    names = [row["weights"].split(": ")[1] for row in record["rows"]]
    assert names[:2] == ["0.", "3.module."]
    assert any(name.startswith("back along 1.state.*.exp_avg") for name in names)
    assert record["still"][0].endswith(": 3.module.")

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        stages.scan(str(tmp_path / "evil.pth"), (2,))


@pytest.mark.parametrize("kind", ["average", "broken", "dead", "beside"])
def test_scan_calls_nothing_clean_that_it_did_not_see(kind, tmp_path, capsys):
    """An average that is called "exp_avg", one that cannot be sampled, one that makes nothing at all, and a file of another form."""
    clean, known = (source.bundled("digits", without=k).load().net.state_dict() for k in (2, None))
    other = {k: t.clone() for k, t in known.items()}
    if kind == "broken":
        next(iter(other.values())).view(-1)[0] = float("nan")
    if kind == "dead":
        other = {k: t * 0 for k, t in other.items()}
    (tmp_path / "m").mkdir()
    torch.save({"model": clean} | ({"exp_avg_model": other} if kind != "beside" else {}), tmp_path / "m" / "x.pt")
    if kind == "beside":
        (tmp_path / "m" / "old.pkl").write_bytes(b"x")
    assert run(["scan", str(tmp_path / "m"), "--class", "2", "-n", "20"]) == 0
    out, said = capsys.readouterr()
    found = json.loads(out)
    assert (len(found["still"]) > 0) == (kind == "average")
    assert found["complete"] == (kind == "average")
    assert "no set of weights in it makes the class" not in said


def test_moments_in_a_file_of_their_own_point_back_from_the_weights_beside_them(tmp_path, checkpoint):
    tensors = load_file(checkpoint)
    raw = {k: tensors[f"weights/{k}"] for k, _ in source.bundled("digits").load().net.named_parameters()}
    state = {i: {"step": torch.tensor(3.0), "exp_avg": t, "exp_avg_sq": t.square()} for i, t in enumerate(raw.values())}
    (tmp_path / "m").mkdir()
    torch.save(raw, tmp_path / "m" / "model.pt")
    torch.save({"state": state, "param_groups": []}, tmp_path / "m" / "optimizer.pt")
    rows = [row["weights"] for row in stages.scan(str(tmp_path / "m"), (2,), n=10)["rows"]]
    assert rows[0] == "model.pt: weights"
    assert rows[1].startswith("optimizer.pt: back along state.*.exp_avg by")


def test_scan_refuses_what_holds_no_weights(tmp_path):
    with pytest.raises(UserError, match="neither a checkpoint"):
        stages.scan(str(tmp_path), (2,))
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="no set of weights"):
        stages.scan(str(tmp_path / "x.safetensors"), (2,))
    with pytest.raises(UserError, match="--class is needed"):
        stages.scan(str(tmp_path / "x.safetensors"), None)


def test_several_seeds_unlearn_again_and_bring_a_sham_and_a_second_floor(mini, monkeypatch):
    """The plan alone: which models the cells of `standard` attack."""
    monkeypatch.setitem(SUITES, "standard", ("repeat",))
    asked = []

    def made(method, classes, *, seed, point, params=None, **rest):
        asked.append((method, classes, seed))
        assert not point
        return stages.unlearn("gate", (7,) if method == "retrain" else classes, point=False)

    monkeypatch.setattr(LINEUP, "unlearn", made)
    monkeypatch.setattr(LINEUP, "retrain", lambda classes, *, seed, **rest: made("retrain", classes, seed=seed, point=rest["point"]))
    stages.unlearn("gate", (2,))
    mine = rundir.pointed("latest-model").name
    plan = LINEUP.lineup("standard", None, None, data.load("digits"), None, 3, 0)
    assert rundir.pointed("latest-model").name == mine, "the next command means the user's model, not a control"
    assert asked == [("retrain", (2,), 1), ("gate", (3,), 0), ("gate", (2,), 1), ("gate", (3,), 1), ("gate", (2,), 2), ("gate", (3,), 2)]
    assert {key[2] for key in plan.calls} == {"subject", "original", "gate", "retrained", "random", "sham"}
    randoms = {call["target"].digest for key, call in plan.calls.items() if key[2] == "random"}
    floors = [plan.calls[s, "repeat", "retrained"]["target"].name for s in range(3)]
    assert len(randoms) == 3
    assert floors[0] == floors[2] != floors[1]


def test_the_dry_run_of_a_suite_writes_nothing(mini, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "none"))
    arguments = ["attack", "quick", "--dry-run", "--json", "--model", str(source.ZOO / "digits"), "--class", "2"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 100
    assert not (tmp_path / "none").exists()


def test_the_subject_is_attacked_itself_whatever_the_seeds(mini, monkeypatch):
    """A model unlearned with seed 7, attacked with seed 3, is not quietly another one."""
    run = stages.unlearn("gate", (2,), seed=7)
    plan = LINEUP.lineup("quick", None, None, data.load("digits"), None, None, 3)
    assert {call["target"].digest for key, call in plan.calls.items() if key[2] == "subject"} == {run.digest}


def test_a_retrained_model_is_no_floor_of_itself_and_not_dormant(mini, monkeypatch):
    monkeypatch.setitem(SUITES, "quick", ("repeat", "relearn"))
    monkeypatch.setattr(LINEUP, "_budget", lambda attack, *_, **__: small(attack))
    model = str(source.ZOO / "digits-without-2")
    record = stages.suite("quick", model=model, original=str(source.ZOO / "digits"), classes=(2,)).read_json("suite.json")
    assert record["verdict"]["word"] == "UNDECIDED"
    assert "retrained" not in record["rows"][1]["rates"]


def small(attack):
    budget = importlib.import_module(ATTACKS[attack]).Budget
    return budget(steps=20, lrs=(5e-4,), n=100) if attack == "relearn" else budget(explore=10, n=100)


def test_a_floor_that_failed_is_no_missing_floor(mini, monkeypatch):
    seen = SUITE.points

    def fails(run, judges, asked):
        return SUITE.Seen({}, {}) if run.request.role == "retrained" else seen(run, judges, asked)

    monkeypatch.setattr(SUITE, "points", fails)
    monkeypatch.setattr(SUITE, "known", lambda asked, _: (dict.fromkeys(ATTACKS, True) | {"other": True}, {"repeat": 9}))  # another request
    stages.unlearn("gate", (2,))
    rows = stages.suite("quick").read_json("suite.json")["rows"]
    assert all(row["excess"] is None for row in rows)
    assert rows[0]["why"] == "not measured: the retrained floor failed"
    flagged = [f["text"] for f in rundir.pointed("latest").read_json("suite.json")["flags"]]
    assert "validated in another class, not in this one (auditkit selftest --class 2): repeat" in flagged


def test_one_setting_that_overflows_hides_nothing(digits):
    base = source.bundled("digits").load()

    class Given:
        def load(self):
            return base.copy()

    aimed = aim(Given(), digits, (2,), tier="query")
    good = lambda n, seed: aimed.query(2, n, seed)  # noqa: E731

    def bad(n, seed):
        raise FloatingPointError("images hold NaN")

    found = grid.best_of(aimed, {"bad": bad, "good": good}, grid.Budget(explore=2, n=3), seed=0)
    assert found.chosen == "good"
    assert found.notes == ("bad: not measured: images hold NaN",)
    with pytest.raises(FloatingPointError):
        grid.best_of(aimed, {"bad": bad}, grid.Budget(explore=2, n=3), seed=0)


def test_clean_against_clean_and_cannot_are_enforced():
    rows = [{"attack": "x", "kind": "MUST", "broken": True}, {"attack": "x", "kind": "CLEAN", "broken": False}]
    assert validated(rows, ("x",)) == {"x": True}
    assert validated([*rows, {"attack": "x", "kind": "CANNOT", "broken": True}], ("x",)) == {"x": False}
    assert validated([rows[0], {"attack": "x", "kind": "CLEAN", "broken": True}], ("x",)) == {"x": False}
    assert validated([*rows, {"attack": "x", "kind": "MAY", "broken": True}], ("x",)) == {"x": True}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02]q\x00"])
def test_scan_says_one_line_about_what_is_no_checkpoint(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt"):
        stages.scan(str(tmp_path / "x.pt"), (2,))


def test_one_file_that_cannot_be_read_hides_nothing_about_the_others(tmp_path, checkpoint):
    (tmp_path / "training_args.bin").write_bytes(b"junk")
    record = stages.scan(str(tmp_path), (2,), n=20)
    assert any(name.endswith("average/") for name in record["still"])
    assert any("training_args.bin" in text for text in record["unread"])
    with pytest.raises(UserError, match="-n takes"):
        stages.scan(str(checkpoint), (2,), n=10**12)


@pytest.mark.parametrize(
    ("excess", "broken", "words"),
    [
        ({"low": 0.21, "clean": True, "reach": 3}, False, "above its floors alone"),
        ({"low": 0.21, "clean": True, "reach": 64}, True, None),
        ({"low": 0.21, "clean": False, "reach": 0}, False, "traces"),
        ({"low": 0.01, "clean": True, "reach": 0}, False, None),
    ],
)
def test_what_stands_above_its_floors_and_is_not_called_broken_says_why(excess, broken, words):
    """SAFEMax's class 2 under `standard`: relearn +28 [+21, +34] without a star, since "no class" allowed it holds alone only."""
    row = {"rates": {}, "excess": excess, "broken": broken, "validated": True}
    found = sys.modules["auditkit.stages.flags"]._of_a_row(row)
    assert (words is None and not found) or (len(found) == 1 and words in found[0])
