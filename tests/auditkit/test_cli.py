"""Commands as a user types them, in this process; slow paths and real processes are in test_commands.py."""

import json

import pytest
from safetensors.torch import save_file

from auditkit import models, rundir, terminal
from auditkit.cli import run
from auditkit.stages import source

ORIGINAL = str(source.ZOO / "digits")


def said(capsys, *arguments):
    """Exit code, stdout, stderr with its lines joined (rich wraps)."""
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


BAD = [
    (["unlearn"], "--class is needed"),
    (["unlearn", "--class", "99"], "--class takes 0 to 9 for digits, got 99"),
    (["unlearn", "--class", "-1"], "--class takes 0 to 9 for digits, got -1"),
    (["unlearn", "--class", "two"], "--class takes a class number like 2, or several like 2,5; got 'two'"),
    (["unlearn", "--class", "2,2"], "different classes"),
    (["unlearn", "--class", "2", "--method", "safemx"], "Did you mean 'safemax'"),
    (["unlearn", "--class", "2", "--data", "digit"], "Did you mean 'digits'"),
    (["unlearn", "--class", "2", "--steps", "0"], "--steps must be at least 1 and at most"),
    (["unlearn", "--class", "2", "--lam", "nan"], "--lam must be at least 0 and at most 1e+07, got nan"),
    (["unlearn", "--class", "2", "--set", "lamda=1"], "unknown setting 'lamda'. Did you mean 'lam'"),
    (["unlearn", "--class", "2", "--set", "lam"], "--set takes name=value"),
    (["unlearn", "--class", "2", "--set", "steps=many"], "setting steps takes a whole number, got 'many'"),
    (["unlearn", "--class", "2", "--target", "terminl"], "Did you mean 'terminal'"),
    (["unlearn", "--class", "2", "--original", "no-such-run"], "there is no run and no folder no-such-run"),
    (["attack", "relern"], "Did you mean 'relearn'"),
    (["attack"], "which attack? Give one of auditkit attack --list"),
    (["selftest", "relern"], "Did you mean 'relearn'"),
    (["scan", "no-such-file", "--class", "2"], "there is no run no-such-file"),
    (["import", "no-such-file"], "no-such-file does not exist"),
    (["import", "no-such-file", "--weights", "avg"], "unknown --weights 'avg'"),
    (["export", "no-such-run", "-o", "new"], "there is no run and no folder no-such-run"),
    (["export", ORIGINAL, "-o", "new", "--to", "peers"], "Did you mean 'peer'"),
    (["sample", "--class", "2", "--steps", "30", "--set", "spacing=leading"], "leading spacing takes steps that divide 1000"),
    (["sample", "--class", "2", "--model", "hub:nobody"], "wanted hub:ORG/NAME"),
    (["attack", "relearn"], "run auditkit unlearn --class 2 first"),
    (["attack", "relearn", "--steps", "0", "--model", ORIGINAL, "--class", "2"], "--steps must be at least 1 and at most"),
    (["attack", "relearn", "--model", ORIGINAL], "does not say which class was forgotten"),
    (["attack", "relearn", "--model", "../runs/x"], "neither a run nor a model folder"),
    (["evaluate", "--judges", "ensembl"], "Did you mean 'ensemble'"),
    (["evaluate", "--model", "missing"], "there is no run and no folder missing"),
    (["audit"], "--class is needed"),
    (["audit", "--class", "12"], "--class takes 0 to 9"),
    (["sample", "--class", "2", "--sampler", "euler"], "unknown sampler 'euler'"),
    (["sample", "--class", "2", "--steps", "0"], "sampler steps must lie in 1..1000"),
    (["verify", "../etc"], "is no run name"),
    (["runs", "show", "nope"], "there is no run nope"),
    (["runs", "rm", "../x"], "there is no run '../x'"),
    (["sample", "--class", "2", "--eta", "-5"], "eta lie in 0..1"),
    (["sample", "--class", "2", "--guidance", "nan"], "guidance must be a number"),
    (["sample", "--class", "2", "--sampler", "ddpm", "--eta", "0.5"], "--eta is DDIM's"),
    (["sample", "--class", "2", "--model", ""], "is an empty text"),
    (["unlearn", "--class", "2", "--original", ""], "is an empty text"),
    (["unlearn", "--class", "2", "--alpha", "1e300"], "--alpha must be at least 0 and at most 1e+07"),
    (["unlearn", "--class", "2", "--set", "steps=inf"], "setting steps takes a whole number"),
    (["attack", "relearn", "-n", "99999999999", "--model", ORIGINAL, "--class", "2"], "--n must be at least 1 and at most"),
    (["attack", "relearn", "--lr", "1e-4,1.0000001e-4", "--model", ORIGINAL, "--class", "2"], "differ in their first six digits"),
    (["audit", "--model", ORIGINAL, "--class", "2", "--method", "gate"], "leave out --method"),
    (["audit", "--class", "2", "--set", "steps=3"], "COMMAND.NAME=VALUE"),
    (["audit", "--class", "2", "--set", "relern.steps=3"], "Did you mean 'relearn'"),
    (["evaluate", "--class", "2", "-n", "0"], "-n and --retain-n must be at least 1"),
    (["evaluate", "--judges", ""], "unknown judge ''"),
    (["evaluate", "--class", "2", "--clip-model", "local-dir:nowhere"], "is no folder"),
    (["evaluate", "--class", "2", "--judges", "ensemble", "--clip-model", "local-dir:x"], "--clip-model is for the clip judge"),
    (["evaluate", "--judges", "density"], "measures do not vote"),
    (["evaluate", "--judges", "nowhere:judge"], "importing nowhere failed"),
    (["evaluate", "--judges", "a:b:c"], "takes a plug-in as module:function"),
    (["evaluate", "--protocol", "papers"], "unknown protocol 'papers'. Did you mean 'paper'"),
    (["evaluate", "--judges", "svc", "--inception", "x.pth"], "--inception is for fidelity"),
    (["evaluate", "--judges", "svc", "--judge-weights", "nowhere"], "nowhere does not exist"),
    (["evaluate", "--images", "x.npz"], "--class is needed"),
    (["evaluate", "--images", "x.npz", "--class", "2"], "x.npz does not exist"),
    (["evaluate", "--images", "x.npz", "--class", "2,3"], "--images are judged for one class"),
    (["evaluate", "--images", "x.npz", "--class", "2", "-n", "5"], "--images are judged as they are: leave out"),
    (["evaluate", "--images", "x.npz", "--class", "12"], "--class takes 0 to 9"),
    (["judges", "card", "nobody"], "unknown judge 'nobody'"),
    (["judges", "card", "density"], "measures do not vote"),
    (["schema", "evaluations"], "Did you mean 'evaluation'"),
    (["unlern"], "No such command"),
    (["unlearn", "--nonsense"], "No such option"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
@pytest.mark.fast
def test_bad_input_is_one_clear_line_exit_2_and_nothing_is_written(arguments, message, capsys, runs_folder, tmp_path):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(runs_folder.rglob("*")) if runs_folder.exists() else True
    assert {p.name for p in tmp_path.iterdir()} <= {"runs"}


def folder(tmp_path, spoil):
    """A copy of the bundled model with one thing wrong."""
    model = tmp_path / "model"
    models.save(source.bundled("digits").load(), model)
    spoil(model)
    return model


def cut(model):
    weights = model / models.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def grow(model):
    with (model / models.WEIGHTS).open("ab") as file:
        file.write(b"more")


def pickle_it(model):
    (model / models.WEIGHTS).write_bytes(b"\x80\x04\x95whatever")


def absurd(model, **changes):
    config = json.loads((model / models.CONFIG).read_text())
    (model / models.CONFIG).write_text(json.dumps({**config, **changes}))


def huge_header(model):
    (model / models.WEIGHTS).write_bytes((2**40).to_bytes(8, "little") + b"{}")


def other_shapes(model):
    import torch

    save_file({"conv_in.weight": torch.zeros(3)}, model / models.WEIGHTS)


def with_nan(model):
    from dataclasses import replace

    broken = source.bundled("digits").load()
    next(broken.net.parameters()).data[0] = float("nan")
    models.save(replace(broken), model)


def link(model):
    weights = model / models.WEIGHTS
    weights.rename(model / "real.safetensors")
    weights.symlink_to(model / "real.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: (m / models.WEIGHTS).unlink(), "does not exist: weights must be a safetensors file"),
        (lambda m: (m / models.CONFIG).unlink(), "is no model folder"),
        (lambda m: (m / models.CONFIG).write_text("{"), "not valid JSON"),
        (lambda m: (m / models.CONFIG).write_text('{"_class_name": "Other"}'), "wanted a UNet2DModel"),
        (cut, "truncated or altered"),
        (grow, "truncated or altered"),
        (pickle_it, "is a pickle, wanted safetensors"),
        (huge_header, "truncated or no safetensors file"),
        (other_shapes, "does not fit"),
        (lambda m: absurd(m, num_class_embeds=10**9), "num_class_embeds = 1000000000, which is no size"),
        (lambda m: absurd(m, sample_size=None), "sample_size = None, which is no size"),
        (lambda m: absurd(m, norm_num_groups=0), "norm_num_groups = 0"),
        (lambda m: absurd(m, block_out_channels=[16000, 16000]), "does not fit"),
        (lambda m: (m / models.GATE).write_text('{"classes": ["x"]}'), "with classes 0 to 9, got ['x']"),
        (lambda m: (m / models.GATE).write_text('{"classes": 5}'), "with classes 0 to 9, got 5"),
        (lambda m: absurd(m, _class_name="\x1b]0;renamed\x07"), "?]0;renamed?"),
        (with_nan, "holds NaN or infinity"),
        (link, "symbolic link"),
    ],
)
def test_a_bad_model_folder_is_refused(spoil, message, capsys, tmp_path, runs_folder):
    code, out, err = said(capsys, "audit", "--class", "2", "--model", str(folder(tmp_path, spoil)))
    assert code == 2
    assert message in err
    assert out == ""
    assert not runs_folder.exists() or not list(runs_folder.iterdir())


def test_unlearn_prints_path_and_digest_and_sets_the_pointers(capsys):
    code, out, err = said(capsys, "unlearn", "--class", "2", "--steps", "2", "--batch", "4")
    assert code == 0
    path, digest = out.splitlines()
    run_ = rundir.pointed("latest-model")
    assert str(run_.path) == path
    assert digest == f"digest {run_.digest}"
    assert run_.request.params["steps"] == 2
    assert "EMA off" in err
    code, out, _ = said(capsys, "verify", run_.name, "--digest", run_.digest)
    assert code == 0
    assert run_.digest in out
    code, _, err = said(capsys, "verify", run_.name, "--digest", "0" * 64)
    assert code == 1
    assert "has digest" in err


def test_the_same_command_twice_is_computed_once(capsys):
    first = said(capsys, "unlearn", "--class", "2", "--steps", "2", "--batch", "4", "--json")
    again = said(capsys, "unlearn", "--class", "2", "--steps", "2", "--batch", "4", "--json")
    assert json.loads(first[1]) == json.loads(again[1])
    assert "already computed" in again[2]


def test_settings_lowest_source_first(capsys, monkeypatch, tmp_path):
    (tmp_path / "auditkit.toml").write_text("[unlearn]\nsteps = 1\nbatch = 3\nlam = 2\nalpha = 2\n")
    monkeypatch.setenv("AUDITKIT_UNLEARN_BATCH", "4")
    monkeypatch.setenv("AUDITKIT_UNLEARN_LAM", "3")
    code, *_ = said(capsys, "unlearn", "--class", "2", "--set", "lam=4", "--set", "lr=1e-4", "--lr", "2e-4")
    assert code == 0
    params = rundir.pointed("latest").request.params
    assert (params["steps"], params["batch"], params["lam"], params["alpha"], params["lr"]) == (1, 4, 4.0, 2.0, 2e-4)


@pytest.mark.parametrize("text", ["[unlern]\nsteps=1", "[unlearn]\nstep=1", "unlearn = 3", "[unlearn"])
def test_a_bad_settings_file_is_refused(text, capsys, tmp_path):
    (tmp_path / "auditkit.toml").write_text(text)
    assert said(capsys, "unlearn", "--class", "2")[0] == 2


def test_an_unknown_variable_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("AUDITKIT_UNLEARN_STEP", "1")
    code, _, err = said(capsys, "unlearn", "--class", "2")
    assert code == 2
    assert "Did you mean 'steps'" in err


DRY = ["unlearn --class 2", "audit --class 2", "evaluate --class 2", "pretrain", "retrain --class 2", "sample --class 2 -n 500"]


@pytest.mark.parametrize("command", [c.split() for c in DRY], ids=DRY)
def test_dry_run_says_the_cost_and_writes_nothing(command, capsys, runs_folder):
    code, out, err = said(capsys, *command, "--dry-run")
    assert code == 0
    assert out == ""
    assert "s of one core" in err
    assert "0 of 500 images would exclude rates above 0.74 %" in err
    assert not runs_folder.exists()
    code, out, _ = said(capsys, *command, "--dry-run", "--json")
    found = json.loads(out)
    assert set(found) == {"evaluations", "seconds", "disk_bytes", "n", "excludes"}
    assert found["evaluations"] == 500 * 50 if command[0] == "sample" else found["evaluations"] > 0  # 25 steps of two branches


@pytest.mark.fast
def test_sample_writes_a_grid_and_the_images_as_one_file(capsys):
    code, out, _ = said(capsys, "sample", "--class", "2", "-n", "20", "--steps", "5", "--guidance", "0")
    assert code == 0
    run_ = rundir.find(out.splitlines()[0])
    assert {"grid.png", "images.safetensors"} <= set(run_.result.files)
    assert run_.file("grid.png").read_bytes().startswith(b"\x89PNG")


def test_runs_list_show_and_rm(capsys):
    said(capsys, "unlearn", "--class", "2", "--method", "gate")
    [row] = json.loads(said(capsys, "runs", "list", "--json")[1])
    assert row["done"]
    assert row["bytes"] > 200_000
    assert "done" in said(capsys, "runs", "list")[1]
    shown = json.loads(said(capsys, "runs", "show", row["run"])[1])
    assert shown["request"]["method"] == "gate"
    assert said(capsys, "runs", "rm", row["run"])[0] == 0
    assert said(capsys, "runs", "list")[1] == ""


def test_divergence_is_exit_1_names_its_step_and_keeps_the_last_good_checkpoint(capsys):
    code, _, err = said(capsys, "unlearn", "--class", "2", "--lr", "1e30", "--batch", "4")
    assert code == 1
    assert "at step" in err or "after step" in err
    [path] = rundir.listing()
    assert not (path / "result.json").exists()


def test_an_altered_run_is_refused_with_exit_1(capsys):
    said(capsys, "unlearn", "--class", "2", "--method", "gate")
    run_ = rundir.pointed("latest-model")
    (run_.path / "model" / "gate.json").write_text("{}")
    code, _, err = said(capsys, "verify", run_.name)
    assert code == 1
    assert "was altered" in err


@pytest.mark.parametrize(("name", "value"), [("AUDITKIT_UNLERN_STEPS", "3"), ("AUDITKIT_EVALUATE_NN", "3")])
def test_a_misspelt_variable_is_never_ignored(name, value, capsys, monkeypatch):
    monkeypatch.setenv(name, value)
    assert said(capsys, "evaluate", "--class", "2")[0] == 2


def test_settings_reach_evaluate_and_sample(capsys, tmp_path):
    (tmp_path / "auditkit.toml").write_text("[evaluate]\nn = 20\nretain_n = 2\n[sample]\nsteps = 5\n")
    assert said(capsys, "sample", "--class", "2", "-n", "2")[0] == 0
    [run_] = [rundir.find(p.name) for p in rundir.listing()]
    assert run_.request.params["sampler"]["steps"] == 5
    assert said(capsys, "evaluate", "--judges", "svc")[0] == 0
    assert rundir.pointed("latest").request.params["n"] == 20


def test_a_runs_folder_that_is_a_file_is_refused(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "file"))
    code, _, err = said(capsys, "unlearn", "--class", "2", "--method", "gate")
    assert code == 2
    assert "is no folder" in err


def test_a_bug_is_one_line_too(capsys, monkeypatch):
    from auditkit.unlearn import gate

    monkeypatch.setattr(gate, "run", lambda *a, **k: 1 / 0)
    code, _, err = said(capsys, "unlearn", "--class", "2", "--method", "gate")
    assert code == 1
    assert "bug: ZeroDivisionError" in err


def test_a_checkpoint_that_cannot_be_read_starts_over(capsys):
    said(capsys, "unlearn", "--class", "2", "--steps", "2", "--batch", "4")
    run_ = rundir.pointed("latest-model")
    (run_.path / "result.json").unlink()
    (run_.path / "checkpoint.safetensors").write_bytes(b"cut")
    (run_.path / "notes.txt").write_text("not of this run")
    code, out, err = said(capsys, "unlearn", "--class", "2", "--steps", "2", "--batch", "4")
    assert code == 0
    assert "starting over" in err
    assert run_.digest in out


def test_judges_list_card_and_schema(capsys):
    assert said(capsys, "judges", "list")[1].splitlines()[0].startswith("ensemble ")
    code, out, err = said(capsys, "judges", "card", "svc", "--json")
    assert code == 0
    [card] = json.loads(out)
    assert card["judge"] == "svc"
    assert f"{card['digest']}" in out
    assert "no class" in err
    assert "a of the ladder" in err
    assert said(capsys, "judges", "card", "svc")[1].startswith(card["run"])
    for name in ("evaluation", "card"):
        code, out, _ = said(capsys, "schema", name)
        assert code == 0
        assert json.loads(out)["type"] == "object"
    assert json.loads(said(capsys, "schema", "evaluation")[1])["properties"]["schema_version"]["const"] == 2


def test_images_from_elsewhere_are_judged_and_the_gate_reads_the_verdict(capsys, tmp_path, monkeypatch):
    import numpy as np

    from auditkit import data

    images, labels = data.load("digits").part("model")
    np.savez(tmp_path / "twos.npz", images[labels == 2].numpy())
    arguments = ("evaluate", "--images", str(tmp_path / "twos.npz"), "--class", "2", "--judges", "svc,knn,noise")
    code, out, err = said(capsys, *arguments, "--json", "--fail-on", "0.9")
    assert code == 3
    assert json.loads(out)["verdict"] == "PRESENT"
    assert "the verdict is PRESENT" in err
    monkeypatch.setattr(terminal.err, "width", 80)
    assert run(list(arguments)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert max(len(line) for line in lines if "\u2500" in line) <= 80, "tables fit a terminal"


def test_the_lists_that_help_prints_without_torch_are_the_real_ones():
    import auditkit_evaluators
    from auditkit import cli_judges, options
    from auditkit_evaluators.protocol import PROTOCOLS

    assert tuple(PROTOCOLS) == options.PROTOCOLS
    assert set(cli_judges.ABOUT) == {*auditkit_evaluators.JUDGES, *auditkit_evaluators.MEASURES}
