"""The Python API end to end with small budgets: one audit, shared by the tests that look at it."""

import importlib
import os
import signal
import subprocess
import sys

import pytest
import torch

from auditkit import rundir, sampling, stages
from auditkit.errors import UserError
from auditkit.results import Measure
from auditkit.stages import source
from auditkit.stages.attack import find_case
from auditkit.stages.cell import Console
from auditkit.stages.sample import images as images_of

SMALL = {
    "unlearn": {"steps": 100, "batch": 32},
    "relearn": {"steps": 20, "lrs": (5e-4,), "n": 20},
    "finetune": {"steps": 2, "lrs": (5e-4,), "n": 20},
    "evaluate": {"n": 60, "retain_n": 10},
}
# Every stage once, with nothing to find: for tests of how an audit is computed.
LEAST = {
    "unlearn": {"steps": 2, "batch": 4},
    "relearn": {"steps": 1, "lrs": (5e-4,), "n": 3},
    "finetune": {"steps": 1, "lrs": (5e-4,), "n": 3},
    "evaluate": {"n": 4, "retain_n": 2},
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """One small audit of class 2, in a folder of its own."""
    folder = tmp_path_factory.mktemp("audit") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDITKIT_RUNS", str(folder))
        run = stages.audit((2,), params=SMALL)
        return folder, run, run.read_json("summary.json")


@pytest.fixture
def in_audit(audited, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(audited[0]))
    return audited


def test_every_role_is_in_the_summary(in_audit):
    _, _, summary = in_audit
    untouched = [s["role"] for s in summary["sets"] if s["set"] == "untouched"]
    assert untouched == ["subject", "original", "retrained", "random", "gate"]
    for attack in ("relearn", "finetune"):
        assert {s["role"] for s in summary["sets"] if s["set"] == attack} == {"subject", "original", "retrained", "random"}
    assert summary["missing"] == {}
    assert len(summary["sentences"]) == len(summary["cards"]) == 7


def test_every_rate_has_n_and_an_interval(in_audit):
    def shares(value):
        if isinstance(value, dict):
            if value.get("unit") == "share" and "safer" in value:
                yield Measure.model_validate(value)
            for inner in value.values():
                yield from shares(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from shares(inner)

    found = list(shares(in_audit[2]))
    assert len(found) > 200
    assert all(m.n > 0 and m.low <= m.value <= m.high for m in found if m.value is not None)


def test_the_judges_see_the_class_where_it_is_and_not_where_it_is_not(in_audit):
    _, _, summary = in_audit
    untouched = [s for s in summary["sets"] if s["set"] == "untouched"]
    svc = {s["role"]: next(e["reading"] for e in s["evidence"] if e["judge"] == "svc")["hit"]["value"] for s in untouched}
    assert svc["original"] > 0.9
    assert max(svc[r] for r in ("subject", "retrained", "random", "gate")) < 0.2
    assert not any(e["excess"]["present"] for e in untouched[0]["evidence"])
    words = {s["role"]: s["verdict"]["word"] for s in untouched}
    assert words["original"] == "PRESENT"
    assert words["subject"] == summary["verdict"] == "UNDECIDED", "60 images cannot show absence"
    assert "as visible" in summary["in_short"][0] or "equivalent a" in summary["in_short"][0] or "too few" in summary["in_short"][0]
    assert "PRESENT" not in {words[r] for r in ("retrained", "random", "gate")}


def test_the_curves_name_their_floors_and_the_gate_hides_nothing(in_audit):
    folder, _, summary = in_audit
    relearn = next(c for c in summary["curves"] if c["attack"] == "relearn")
    assert set(relearn["excess"]) == {"random", "retrained", "highest"}
    assert len(relearn["excess"]["random"]["points"]) == 5
    assert relearn["lines"]["original"][0]["rate"]["value"] > 0.85
    [path] = [p for p in folder.glob("attack-relearn*") if rundir.read(p).request.role == "index"]
    index = rundir.read(path).read_json("attack.json")
    assert index["cells"]["gate"] == index["cells"]["original"]


def test_pictures_are_there(in_audit):
    _, run, _ = in_audit
    assert run.file("grid.png").read_bytes().startswith(b"\x89PNG")
    assert run.file("curves.png").read_bytes().startswith(b"\x89PNG")
    evaluation = rundir.find(run.read_json("summary.json")["evaluation"])
    assert evaluation.file("judges.png").read_bytes().startswith(b"\x89PNG")


def test_two_processes_give_the_same_runs_and_done_again_nothing_is_computed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("auditkit.stages.evaluate"), "STARTED", 0)  # in two processes, however little
    done = []
    for jobs in (1, 2):
        monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / f"by-{jobs}"))
        done.append(stages.audit((2,), params=LEAST, judges=("svc",), console=Console(jobs=jobs)))
    assert done[0].digest == done[1].digest

    def written():
        found = [p for p in (tmp_path / "by-2").rglob("*") if p.is_file() and ".locks" not in p.parts]
        return {p: p.stat().st_mtime_ns for p in found if not p.name.startswith("latest")}

    before = written()
    assert stages.audit((2,), params=LEAST, judges=("svc",)).digest == done[0].digest
    assert written() == before


def test_somebody_elses_folder_is_audited_and_what_is_missing_is_said(in_audit, tmp_path):
    run = rundir.pointed("latest-model")
    import shutil

    shutil.copytree(run.path / "model", tmp_path / "theirs")
    done = stages.audit((2,), model=str(tmp_path / "theirs"), params=SMALL, judges=("svc",))
    summary = done.read_json("summary.json")
    assert set(summary["missing"]) == {"original", "gate", "retrained"}
    assert all("not measured" in why for why in summary["missing"].values())
    assert {s["role"] for s in summary["sets"]} == {"subject", "random"}
    with_original = stages.audit((2,), model=str(tmp_path / "theirs"), original=str(source.ZOO / "digits"), params=SMALL, judges=("svc",))
    assert with_original.read_json("summary.json")["missing"] == {}


def test_without_a_run_evaluate_judges_the_bundled_original_and_says_so(monkeypatch):
    monkeypatch.setattr("joblib.Parallel", None)  # so little work starts no process
    said = []
    done = stages.evaluate(("svc",), n=20, retain_n=2, console=Console(say=said.append, jobs=2))
    assert any("no model has been unlearned yet" in line for line in said)
    assert done.read_json("evaluation.json")["subject"] == "bundled digits"


def test_a_run_knows_its_original_and_class(in_audit):
    case = find_case(None, None, "digits", None)
    assert case.classes == (2,)
    assert case.original.name == "bundled digits"


@pytest.mark.parametrize("kind", sampling.KINDS)
def test_samples_are_paired_across_models_and_counts(kind, monkeypatch):
    """Nine images in batches of four, which hold other classes too where the sampler allows it."""
    base, how = source.bundled("digits"), sampling.Sampler(kind=kind, steps=5)
    many = images_of(stages.sample(base, {5: 9}, sampler=how))
    monkeypatch.setattr(importlib.import_module("auditkit.stages.sample"), "BATCH", 4)
    few = images_of(stages.sample(base, {2: 6, 5: 8}, sampler=how))
    assert [len(few[name]) for name in ("class/2", "class/5")] == [6, 8]
    assert (few["class/5"].int() - many["class/5"][:8].int()).abs().max() <= 1


def test_retrain_makes_the_floor_for_a_model_that_has_none(in_audit):
    small = {"steps": 3, "batch": 4}
    stages.unlearn("safemax", (2, 5), params=small)
    case = find_case(None, None, "digits", None)
    from auditkit import data

    assert "retrained" not in case.roles(data.load("digits"))
    floor = stages.retrain((2, 5), params=small)
    assert case.roles(data.load("digits"))["retrained"].digest == floor.digest
    assert rundir.pointed("latest-model").request.method == "safemax", "a floor does not become the subject"


def test_an_attack_with_another_seed_or_budget_is_not_mixed_in(in_audit):
    """The audit reports its own attacks, whatever was run since; evaluate takes the same seed, and the budget run last."""
    _, run, _ = in_audit
    stages.attack("relearn", params={"steps": 1, "n": 5, "lrs": (1e-4,)}, seed=7)
    assert stages.audit((2,), params=SMALL).digest == run.digest
    stages.attack("relearn", params={"steps": 1, "n": 5, "lrs": (1e-4,)})
    judged = stages.evaluate(("svc",), n=20, retain_n=2).read_json("evaluation.json")
    assert judged["attacks"]["relearn"]["params"]["n"] == 5
    assert judged["attacks"]["relearn"]["seed"] == 0
    again = stages.evaluate(("svc",), n=20, retain_n=2).read_json("evaluation.json")
    assert again["subject"] == judged["subject"]


def test_evaluate_stays_with_the_model_that_was_attacked_and_notices_when_it_changes(in_audit, tmp_path, monkeypatch):
    import shutil

    from auditkit import models

    shutil.copytree(source.ZOO / "digits-without-4", tmp_path / "My $x^{$ Model")
    small = {"steps": 1, "n": 5, "lrs": (1e-4,)}
    stages.attack("relearn", model="My $x^{$ Model", classes=(4,), params=small)
    monkeypatch.chdir("/")
    twice = [stages.evaluate(("svc",), n=20, retain_n=2) for _ in range(2)]
    assert twice[0].digest == twice[1].digest
    assert twice[0].read_json("evaluation.json")["class"] == 4
    models.save(source.bundled("digits").load(), tmp_path / "My $x^{$ Model")
    with pytest.raises(UserError, match="has changed since"):
        stages.evaluate(("svc",), n=20, retain_n=2)


def test_a_trial_retraining_does_not_replace_the_bundled_floor(in_audit):
    from auditkit import data

    stages.retrain((2,), params={"steps": 1, "batch": 4})
    case = find_case(rundir.pointed("latest-model").name, None, "digits", None)
    assert case.roles(data.load("digits"))["retrained"].name == "bundled digits-without-2"


def test_an_index_whose_cells_were_deleted_stops_nothing(in_audit):
    stages.unlearn("gate", (3,))
    index = stages.attack("finetune", params={"steps": 1, "n": 5, "lrs": (1e-4,)})
    rundir.remove(index.read_json("attack.json")["cells"]["subject"])
    judged = stages.evaluate(("svc",), n=20, retain_n=2).read_json("evaluation.json")
    assert judged["attacks"] == {}


def test_params_are_checked_before_anything_is_written(runs_folder):
    with pytest.raises(UserError, match="unknown command"):
        stages.audit((2,), params={"relern": {}})
    with pytest.raises(UserError, match="Did you mean 'steps'"):
        stages.audit((2,), params={"relearn": {"step": 3}})
    assert not runs_folder.exists()


# Writes a checkpoint at every step, says when its fifth lies on disk, and waits there to be told to go on.
STOPPING = """
import sys
from auditkit import files, training
from auditkit.__main__ import main

training.CHECKPOINT_SECONDS, write, written = -1.0, files.write, []

def stopping(path, data):
    write(path, data)
    written.append(path.name)
    if written.count("checkpoint.safetensors") == 5 and path.name == "checkpoint.safetensors":
        print("saved", flush=True)
        sys.stdin.readline()

files.write = stopping
main()
"""


def start(folder, *arguments):
    environment = {**os.environ, "AUDITKIT_RUNS": str(folder)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", STOPPING, *arguments], env=environment, **pipes)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_killed_and_run_again_it_ends_with_the_same_bytes(sent, code, tmp_path, monkeypatch):
    command = ("unlearn", "--class", "2", "--steps", "12", "--batch", "16")
    process = start(tmp_path / "killed", *command)
    said = process.stdout.readline()
    process.send_signal(sent)
    _, err = process.communicate(b"go on\n")
    assert (said, process.returncode) == (b"saved\n", code), err
    assert (b"interrupted; run the same command again" in err) == (sent == signal.SIGINT)
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "killed"))
    assert rundir.pointed("latest") is None
    params = {"steps": 12, "batch": 16}
    said = []
    resumed = stages.unlearn("safemax", (2,), params=params, console=Console(say=said.append))
    [step] = [int(line.rsplit(" ", 1)[1]) for line in said if "goes on from step" in line]
    assert 4 <= step < 12
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "whole"))
    assert stages.unlearn("safemax", (2,), params=params).digest == resumed.digest
    assert torch.get_num_threads() == 1


def test_of_several_forgotten_classes_one_is_in_question_and_none_is_retained():
    stages.unlearn("safemax", (5, 2), params={"steps": 2, "batch": 4})
    assert rundir.pointed("latest-model").request.classes == (2, 5)
    first, other = find_case(None, None, "digits", None), find_case(None, None, "digits", (5,))
    assert (first.classes, other.classes) == ((2, 5), (5, 2))
    done = stages.evaluate(("svc",), classes=(5,), n=10, retain_n=2)
    evaluation = done.read_json("evaluation.json")
    assert evaluation["class"] == 5
    assert "class 2" in evaluation["missing"]
    retained = next(m for m in evaluation["retained"] if "change" in m["name"])
    assert retained["n"] == 8 * 2
