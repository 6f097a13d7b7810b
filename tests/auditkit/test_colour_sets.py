"""Every stage on a data set that is not the digits: tiny, in colour, of three classes or of many, with models and runs of its own."""

import json

import pytest
import torch

from auditkit import cli, data, models, rundir, stages
from auditkit.errors import UserError
from auditkit.stages import source, train


@pytest.fixture
def colours(pack, tmp_path):
    pack(tmp_path / "colours.npz")
    return "pack:colours.npz"


def said(capsys, *arguments):
    code = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def test_every_stage_works_on_a_tiny_colour_pack(colours, capsys, tmp_path):
    code, out, err = said(capsys, "pretrain", "--data", colours, "--set", "steps=5", "--set", "batch=8", "--json")
    assert code == 0, err
    base = json.loads(out)["run"].rsplit("/")[-1]
    assert base.startswith(f"pretrain-{data.load(colours).name}-")
    here = ("--data", colours, "--class", "1")
    code, _, err = said(capsys, "retrain", *here, "--original", base, "--set", "steps=3", "--set", "batch=8")
    assert code == 0, err
    code, _, err = said(capsys, "unlearn", *here, "--original", base, "--steps", "3", "--batch", "4")
    assert code == 0, err
    budget = ("--steps", "1", "--images", "20", "--lr", "5e-4", "-n", "3", "--data", colours, "--jobs", "1")
    code, out, err = said(capsys, "attack", "relearn", *budget, "--json")
    assert code == 0, err
    assert set(json.loads(out)["cells"]) >= {"subject", "original", "retrained", "random"}
    asked = ("--data", colours, "--judges", "knn,logistic", "-n", "4", "--retain-n", "2", "--jobs", "1")
    code, out, err = said(capsys, "evaluate", *asked, "--json")
    assert code == 0, err
    judged = json.loads(out)
    assert judged["class_names"] == ["colour-0", "colour-1", "colour-2"]
    assert {(s["set"], s["role"]) for s in judged["sets"]} >= {("untouched", "subject"), ("relearn", "retrained")}
    assert "colour-1" in err
    code, _, err = said(capsys, "sample", "--data", colours, "--class", "0,2", "-n", "3")
    assert code == 0, err
    code, _, err = said(capsys, "report", "-o", "page.html")
    assert code == 0, err
    assert "colour-1" in (tmp_path / "page.html").read_text()


def test_the_architecture_follows_from_the_size_and_is_in_the_request(pack, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(train, "_train", lambda request, module, start, *_: built.append((request, start)))
    pack(tmp_path / "small.npz", shape=(1, 16, 16))
    pack(tmp_path / "large.npz", shape=(3, 28, 28))
    steps = {"steps": 1}
    for spec, asked in (("small", None), ("large", None), ("large", "digits"), ("small", "small")):
        stages.pretrain(f"pack:{spec}.npz", architecture=asked, params=steps)
    (tiny, _), (photo, net), (plain, _), (asked, _) = built
    assert net.shape == (3, 28, 28)
    assert 1e6 < net.parameters < 3e6
    assert photo.params == {"steps": 1, "batch": 64, "lr": 1e-3, "ema": 0.999, "class_dropout": 0.1, "architecture": "small"}
    assert tiny.params == plain.params == {"steps": 1, "batch": 128, "lr": 3e-3, "ema": 0.999, "class_dropout": 0.1}
    assert asked.params == photo.params
    with pytest.raises(UserError, match=r"unknown architecture 'cifar'\. Did you mean 'cifar10'"):
        stages.pretrain("pack:large.npz", architecture="cifar")
    with pytest.raises(UserError, match="images of 28 x 28 cannot be halved 3 times"):
        stages.pretrain("pack:large.npz", architecture="cifar10")


def test_the_requests_of_digits_are_what_they_were(monkeypatch):
    """Names that runs had before there were other data sets and a choice of architecture (commit 65467d1)."""
    asked = []
    monkeypatch.setattr(train, "_train", lambda request, *_, **__: asked.append(request.name))
    stages.pretrain(params={"steps": 1, "batch": 2})
    stages.retrain((2,), params={"steps": 1, "batch": 2})
    assert asked == ["pretrain-digits-d7e54c625122", "retrain-retrain-c2-73f29ef2e709"]


def test_a_floor_is_trained_by_the_recipe_of_its_original(colours):
    base = stages.pretrain(colours, architecture="small", params={"steps": 1, "batch": 2})
    assert base.request.params["architecture"] == "small"
    found = source.named(base.name, "original")
    assert train.recipe_of(found, "retrain", {}) == {"steps": 1, "batch": 2, "lr": 1e-3, "ema": 0.999, "class_dropout": 0.1}
    assert train.recipe_of(found, "safemax", {}) == {}
    assert train.recipe_of(source.bundled("digits"), "retrain", {}) == {}
    models.save(found.load(), "elsewhere")
    foreign = source.named("elsewhere", "original")  # it does not say how it was trained, but it is of a kind that we know
    assert train.recipe_of(foreign, "retrain", {}) == {"steps": 20_000, "batch": 64, "lr": 1e-3}
    own = models.build((3, 16, 16), 3, seed=0, architecture={**models.DIGITS, "block_out_channels": (8,), "norm_num_groups": 2})
    models.save(own, "own")
    with pytest.raises(UserError, match="--set steps=N --set lr=X"):
        train.recipe_of(source.named("own", "original"), "retrain", {})
    assert train.recipe_of(source.named("own", "original"), "retrain", {"steps": 5, "lr": 1e-3}) == {}
    floor = stages.retrain((1,), data_name=colours, original=base.name, params={"steps": 1, "batch": 2})
    assert (floor.request.params["lr"], floor.request.params["batch"]) == (1e-3, 2)


def test_the_dry_run_of_a_pretraining_needs_no_bundled_model(colours, capsys, runs_folder):
    code, out, err = said(capsys, "pretrain", "--data", colours, "--architecture", "small", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["disk_bytes"] > 4e6
    assert not runs_folder.exists()


def test_a_hundred_classes_are_known_and_drawn(pack, tmp_path, capsys):
    pack(tmp_path / "many.npz", classes=100, each=100, shape=(3, 4, 4))
    many = data.load("pack:many.npz")
    model = models.build(many.shape, 100, seed=0, architecture={**models.DIGITS, "block_out_channels": (8, 8), "norm_num_groups": 2})
    models.save(model, tmp_path / "model")
    assert model.null == 100
    code, out, err = said(
        capsys, "sample", "--data", "pack:many.npz", "--model", "model", "--class", ",".join(map(str, range(100))), "-n", "1"
    )
    assert code == 0, err
    run = rundir.find(out.splitlines()[0])
    assert (run.path / "grid.png").stat().st_size > 0
    assert many.others((99,)).tolist() == list(range(99))
    with pytest.raises(UserError, match="--class takes 0 to 99 for pack-"):
        many.check_labels((100,))
    assert torch.bincount(many.labels).tolist() == [100] * 100
