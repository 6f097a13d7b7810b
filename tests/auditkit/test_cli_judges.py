"""`auditkit judges train` and `--data folder:PATH` as a user types them, in this process."""

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from auditkit import cli_judges, data, files, rundir, stages
from auditkit.cli import run
from auditkit.stages import judging
from auditkit_evaluators import cards, paper_judge
from auditkit_evaluators import train_judge as recipe


@pytest.fixture
def quick(monkeypatch):
    """Cards of fewer images: what they are worth is measured elsewhere."""
    for module, name, value in ((cards, "PANEL_N", 60), (cards, "RUNG_N", 10), (cards, "RUNG_CAP", 10), (judging, "HISTOGRAM_N", 100)):
        monkeypatch.setattr(module, name, value)


def said(capsys, *arguments):
    """Exit code, stdout, stderr with its lines joined (rich wraps)."""
    code = run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def write(folder, images, labels, names):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / names[label] / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return f"folder:{folder}"


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    """The first 120 zeros, ones and twos as pictures."""
    digits = data.load("digits")
    rows = np.concatenate([np.flatnonzero(digits.labels.numpy() == k)[:120] for k in range(3)])
    folder = tmp_path_factory.mktemp("digits")
    return write(folder, digits.images[rows, 0].numpy(), digits.labels[rows].tolist(), ("a-zero", "b-one", "c-two"))


@pytest.fixture(scope="module")
def colour_folder(tmp_path_factory):
    """Three classes of 16 x 16 colour pictures, 120 of each: class k has a disc somewhere, bright in channel k."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    images, labels = [], np.repeat(np.arange(3), 120)
    for k in labels:
        image = rng.integers(0, 60, (16, 16, 3))
        cy, cx = rng.uniform(5, 11, 2)
        image[..., k] += (180 * (np.hypot(y - cy, x - cx) < 4)).astype(int)
        images.append(image.astype(np.uint8))
    return write(tmp_path_factory.mktemp("colour"), images, labels, ("red", "green", "blue"))


def test_a_folder_is_judged_from_end_to_end(quick, capsys, tmp_path, digits_folder):
    found = data.load(digits_folder)
    images, labels = found.part("model")
    np.savez(tmp_path / "ones.npz", images[labels == 1].numpy())
    arguments = ("evaluate", "--images", "ones.npz", "--data", digits_folder, "--class", "1", "--judges", "svc,knn")
    code, out, _ = said(capsys, *arguments, "--json")
    assert code == 0
    record = json.loads(out)
    assert record["verdict"] == "PRESENT"
    assert record["class_names"] == ["a-zero", "b-one", "c-two"]
    assert record["data"] == found.name
    path = digits_folder.removeprefix("folder:")
    sealed = [file for run_ in rundir.listing() for file in run_.rglob("*") if file.is_file() and file.name != "result.json"]
    assert sealed
    assert not [file for file in sealed if path.encode() in file.read_bytes()], "a path has entered a run"


def test_a_network_is_trained_on_a_colour_folder_and_speaks(quick, capsys, tmp_path, colour_folder):
    train = ("judges", "train", "resnet20", "--data", colour_folder, "--steps", "15", "--seed", "2")
    code, out, err = said(capsys, *train, "--out", "net.safetensors")
    assert (code, out) == (0, "net.safetensors\n")
    assert "resnet20: hit rate on real held-out images " in err
    with safe_open("net.safetensors", framework="pt") as opened:
        made = json.loads(opened.metadata()["auditkit"])
    assert made["data"] == data.load(colour_folder).sha256
    assert (made["network"], made["steps"], made["flip"], made["seed"]) == ("resnet20", 15, True, 2)
    assert {p.name for p in tmp_path.iterdir()} == {"net.safetensors"}
    code, out, _ = said(capsys, *train, "--out", "again.safetensors", "--json")
    hit = json.loads(out)["hit"]
    assert hit["low"] <= hit["value"] <= hit["high"]
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    found = data.load(colour_folder)
    images, labels = found.part("model")
    np.savez(tmp_path / "green.npz", images[labels == found.classes.index("green")].numpy())
    arguments = ("evaluate", "--images", "green.npz", "--data", colour_folder, "--class", "1", "--judges", "knn")
    code, out, _ = said(capsys, *arguments, "--judge-weights", "net.safetensors", "--json")
    assert code == 0
    record = json.loads(out)
    [card] = [card for card in record["cards"] if card["judge"] == "net"]
    assert card["hit"]["value"] == hit["value"], "what training said of the file is what its card says"
    assert "net" in [evidence["judge"] for evidence in record["sets"][0]["evidence"]]


def test_a_base_model_is_trained_on_a_folder(quick, capsys, digits_folder):
    code, _, _ = said(capsys, "pretrain", "--data", digits_folder, "--set", "steps=1", "--set", "batch=4")
    assert code == 0
    [path] = rundir.listing()
    assert path.name.startswith(f"pretrain-{data.load(digits_folder).name}-")
    code, _, err = said(capsys, "unlearn", "--data", digits_folder, "--class", "1", "--original", path.name, "--steps", "1", "--batch", "4")
    assert code == 0, err
    code, out, err = said(capsys, "evaluate", "--data", digits_folder, "--judges", "svc", "-n", "4", "--retain-n", "2", "-j", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["class_names"] == ["a-zero", "b-one", "c-two"]


BAD = [
    (["resnet21"], "unknown network 'resnet21'. Did you mean 'resnet32'"),
    (["resnet20", "--out", "x.pt"], "--out takes a file that ends in .safetensors, got x.pt"),
    (["resnet20", "--out", "there.safetensors"], "there.safetensors exists and is not overwritten"),
    (["resnet20", "--out", "nowhere/x.safetensors"], "there is no folder nowhere; make it first"),
    (["resnet20", "--steps", "3", "--epochs", "3"], "--steps 3 and --epochs 3 say the same thing twice"),
    (["resnet20", "--start", "x.pth"], "resnet20 is trained from scratch: leave it out"),
    (["resnet20"], "CIFAR ResNets take colour images of at least 8 x 8 pixels, digits has 1 x 8 x 8: train resnet34 instead"),
    (["resnet34", "--start", "x.pth"], "x.pth does not exist"),
    (["resnet20", "--steps", "0"], "Invalid value for '--steps'"),
    (["resnet20", "--data", "folder:nowhere"], "folder:nowhere names no folder"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_what_cannot_be_trained_is_one_line_exit_2_and_nothing_is_written(arguments, message, capsys, tmp_path):
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    arguments = arguments if "--out" in arguments else [*arguments, "--out", "x.safetensors"]
    code, out, err = said(capsys, "judges", "train", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert {p.name for p in tmp_path.iterdir()} == {"there.safetensors"}
    assert (tmp_path / "there.safetensors").read_bytes() == b"kept"


@pytest.mark.parametrize("where", ["training", "writing"])
def test_ctrl_c_leaves_nothing_and_says_that_it_starts_over(where, capsys, monkeypatch, tmp_path, colour_folder):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(*((recipe, "cropped", interrupt) if where == "training" else (files.os, "fsync", interrupt)))
    code, out, err = said(capsys, "judges", "train", "resnet20", "--data", colour_folder, "--steps", "2", "--out", "net.safetensors")
    assert (code, out) == (130, "")
    assert "interrupted: nothing was written, it starts over" in err
    assert list(tmp_path.iterdir()) == []


def test_the_papers_judge_is_fine_tuned_from_a_file_on_grey_images(capsys, tmp_path, digits_folder, monkeypatch):
    """Batches of 2, a held-out split of 2: 224 pixels take their time."""
    torch.manual_seed(0)
    save_file(paper_judge.PaperJudge(1000).state_dict(), tmp_path / "start.safetensors")
    part = data.Dataset.part
    monkeypatch.setattr(data.Dataset, "part", lambda *a, **k: tuple(t[-2:] for t in part(*a, **k)) if "heldout" in a else part(*a, **k))
    monkeypatch.setattr(recipe, "BATCH", 2)
    train = ("judges", "train", "resnet34", "--data", digits_folder, "--start", "start.safetensors", "--steps", "1")
    code, out, err = said(capsys, *train, "--out", "paper.safetensors")
    assert (code, out) == (0, "paper.safetensors\n")
    assert "n = 2" in err
    with safe_open("paper.safetensors", framework="pt") as opened:
        made = json.loads(opened.metadata()["auditkit"])
    assert made["flip"] is False, "grey images are not mirrored unless it is asked for"
    assert made["start"] == files.sha256_of([tmp_path / "start.safetensors"])


def test_epochs_are_steps_counted_otherwise(monkeypatch, tmp_path, colour_folder):
    taken = []

    def train(dataset, layers, *, steps, flip, seed, report):
        taken.append((layers, steps))
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train", train)
    n = len(data.load(colour_folder).part("judges")[1])
    assert n < 128
    for epochs in (1, 7):
        with pytest.raises(KeyboardInterrupt):
            stages.train_judge("resnet56", tmp_path / "x.safetensors", data_name=colour_folder, epochs=epochs)
    with pytest.raises(KeyboardInterrupt):
        stages.train_judge("resnet32", tmp_path / "x.safetensors", data_name=colour_folder)
    assert taken == [(56, 1), (56, 7), (32, 2800)]


def test_the_networks_that_help_names_without_torch_are_the_real_ones():
    module = importlib.import_module("auditkit.stages.train_judge")
    assert cli_judges.NETWORKS == module.NETWORKS
    assert stages.train_judge is module.train_judge, "the function, not the module of its name"
