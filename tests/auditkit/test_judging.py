"""Evaluations of images whose truth is known, end to end; cards are measured once."""

import json

import numpy as np
import pytest
import torch

from auditkit import data, rundir, stages
from auditkit.errors import UserError
from auditkit.stages.cell import Console
from auditkit_evaluators.evaluation import Evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder of runs for the module, so that cards are measured once."""
    return tmp_path_factory.mktemp("judging")


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(folder / "runs"))
    return folder


def digits(k, n=None):
    images, labels = data.load("digits").part("model")
    return images[labels == k][:n]


def noise(n=300, sigma=1.0):
    return data.to_uint8(sigma * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(5)))


def judged(folder, images, asked=2, judges=("svc", "forest", "knn"), **options):
    path = folder / "images.npz"
    np.savez(path, images.numpy())
    return stages.evaluate_images(str(path), (asked,), judges, **options).read_json("evaluation.json")


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (digits(2), "PRESENT"),
        (torch.cat([digits(2, 60), noise(240)]), "PRESENT"),
        (digits(3), "OTHER CLASS"),
        (noise(), "NO CLASS"),
        (noise(sigma=0.1), "NO CLASS"),
        (torch.full((200, 1, 8, 8), 90, dtype=torch.uint8), "UNDECIDED"),
        (noise(1), "UNDECIDED"),
    ],
    ids=["real", "one in five", "another", "noise", "faint noise", "flat", "one image"],
)
def test_images_whose_truth_is_known(images, word, here):
    found = judged(here, images)
    assert found["verdict"] == word
    assert found["in_short"][0].startswith(word)
    assert Evaluation.model_validate(found).sets[0].verdict.n == len(images)


def test_noise_asked_as_the_svcs_sink_is_no_class_although_its_ua_is_far_below_one(here):
    found = judged(here, noise(), asked=7)
    svc = next(e for e in found["sets"][0]["evidence"] if e["judge"] == "svc")
    assert svc["reading"]["ua"]["value"] < 0.6
    assert svc["excess"]["explained_by_noise"]
    assert found["verdict"] == "NO CLASS"
    assert any("svc" in line and "the judge's doing" in line for line in found["in_short"])


def test_cards_are_measured_once_whatever_is_judged(here):
    judged(here, noise(50))
    before = {p.name for p in rundir.listing() if p.name.startswith("card-")}
    assert {name.split("-")[1] for name in before} == {"svc", "forest", "knn", "noise"}
    judged(here, noise(60), asked=4)
    assert {p.name for p in rundir.listing() if p.name.startswith("card-")} == before
    [again] = stages.cards(("svc",))
    assert again.name in before


def test_an_altered_card_is_refused(here, monkeypatch, tmp_path):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    [run] = stages.cards(("svc",))
    file = run.path / "card.json"
    file.write_text(file.read_text().replace('"sink": 7', '"sink": 1'))
    from auditkit.errors import RunError

    with pytest.raises(RunError, match="altered after it was sealed"):
        stages.cards(("svc",))


def test_measures_print_and_do_not_vote(here):
    found = judged(here, noise(60), judges=("svc", "forest", "density", "noise"))
    names = [m["name"] for m in found["density"]]
    assert "density (pixels)" in names
    assert "density (pixels), real v real" in names
    assert "density (pixels), matched noise" in names
    assert len(found["cards"]) == 2
    with pytest.raises(UserError, match="measures do not vote"):
        judged(here, noise(60), judges=("density", "noise"))


def test_the_paper_protocol_stretches_and_says_so(here):
    dim = digits(2) // 2
    clean, paper = (judged(here, dim, protocol=name) for name in ("clean", "paper"))
    assert (clean["protocol"], paper["protocol"]) == ("clean", "paper")
    assert "stretched" in paper["deviations"][0]
    hits = [e["reading"]["hit"]["value"] for r in (clean, paper) for e in r["sets"][0]["evidence"] if e["judge"] == "knn"]
    assert hits[1] > hits[0]


def test_several_judges_at_once_give_the_same_bytes(here, monkeypatch, tmp_path):
    one = judged(here, noise(80))
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    two = judged(here, noise(80), console=Console(jobs=2))
    assert json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def test_every_forgotten_class_has_a_verdict_and_the_worst_is_the_word(here):
    stages.unlearn("gate", (2, 5))
    found = stages.evaluate(("svc", "forest"), n=100, retain_n=5).read_json("evaluation.json")
    assert [v["asked"] for v in found["verdicts"]] == [2, 5]
    assert [(s["role"], s["verdict"]["asked"]) for s in found["sets"]][:2] == [("subject", 2), ("subject", 5)]
    words = [v["word"] for v in found["verdicts"]]
    order = ["PRESENT", "UNDECIDED", "OTHER CLASS", "NO CLASS"]
    assert found["verdict"] == min(words, key=order.index)
    original = next(s for s in found["sets"] if s["role"] == "original")
    assert original["verdict"]["word"] == "PRESENT", "the original still shows the class: the judges work"
    assert set(found["sets"][0]["evidence"][0]["controls"]) == {"histogram", "eps=0", "eps=-w*null", "shuffled", "phase", "signs"}


def test_fidelity_of_the_retained_classes_names_its_features(here):
    found = stages.evaluate(("cnn-a", "svc", "fidelity"), n=20, retain_n=10).read_json("evaluation.json")
    assert found["fidelity"]
    assert all("cnn-a" in m["name"] for m in found["fidelity"])
    assert any(m["name"].startswith("original: ") for m in found["fidelity"])
