"""Nothing is called forgotten that was never there: the positive control in every command that judges."""

import numpy as np
import pytest
import torch

from auditkit import cli, data, models, rundir, stages
from auditkit.errors import UserError
from auditkit.results import Measure
from auditkit.stages import source

FEW = {"judges": ("svc", "knn", "cnn-a"), "n": 60, "retain_n": 20}
SOME = ["--judges", "svc,knn,cnn-a", "-n", "60", "--retain-n", "20", "--fail-on", "0.05"]


def shifted(model, by=1):
    """The model with its class rows moved: row 0 is the null row, and asking for label c gives class c - 1."""
    moved = model.copy()
    table = moved.class_table
    table.copy_(torch.roll(table.clone(), by, 0))
    return moved


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("positive") / "runs"


@pytest.fixture(autouse=True)
def one_folder_of_runs(shared, monkeypatch):
    """Samples and cards of one test serve the others: they are named by what decides them."""
    monkeypatch.setenv("AUDITKIT_RUNS", str(shared))
    for pointer in rundir.POINTERS:
        (shared / pointer).unlink(missing_ok=True)


@pytest.fixture
def folder(tmp_path):
    """A model folder from elsewhere, by name."""

    def make(model, name):
        models.save(model, tmp_path / name)
        return str(tmp_path / name)

    return make


@pytest.fixture
def without(folder):
    """A model that never saw a two, and the same one a little changed: there was nothing to forget."""
    never = source.bundled("digits", without=2).load()
    changed = never.copy()
    with torch.no_grad():
        for k, p in enumerate(changed.net.parameters()):
            p.add_(1e-5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(k)))
    return folder(never, "never"), folder(changed, "changed")


def test_an_original_that_never_saw_the_class_decides_nothing(without, capsys):
    original, subject = without
    assert cli.run(["evaluate", "--class", "2", "--model", subject, "--original", original, *SOME]) == 4
    record = rundir.pointed("latest").read_json("evaluation.json")
    assert record["verdict"] == "UNDECIDED"
    assert not record["controls"][0]["passed"]
    assert record["verdicts"][0]["why"][0] == record["controls"][0]["why"]
    assert record["in_short"][0].startswith("UNDECIDED: 60 images asked for 'two': the original itself shows 'two' in ")
    said = capsys.readouterr().err
    assert "--fail-on 0.05: undecided: the original itself shows 'two' in" in said


def test_attacks_on_such_a_case_say_that_they_say_nothing(without, capsys):
    original, subject = without
    arguments = ["attack", "relearn", "--class", "2", "--model", subject, "--original", original, "--steps", "1", "-n", "10"]
    assert cli.run([*arguments, "--lr", "1e-3"]) == 0
    assert "! this attack says nothing about forgetting: the original itself shows 'two' in" in capsys.readouterr().err
    record = stages.evaluate(**FEW, model=subject, original=original, classes=(2,)).read_json("evaluation.json")
    [line] = [line for line in record["in_short"] if line.startswith("relearn")]
    assert line.startswith("relearn: says nothing about forgetting: the original itself shows")


def test_an_excess_over_the_floors_is_no_failure_where_the_control_failed():
    """A trained network relearns a digit faster than a random one, whatever it knew before."""
    from auditkit import show

    excess = Measure(name="relearn: excess", value=0.6, n=100, low=0.4, high=0.8).model_dump()
    control = {"asked": 2, "where": "original", "passed": False, "why": "the original itself shows 'two' in 0 of 100 images"}
    record = {"gate": [excess], "verdict": "UNDECIDED", "controls": [control]}
    assert show.gate(record, 0.05) == 4
    assert show.gate({**record, "controls": [{**control, "passed": True}]}, 0.05) == 3
    assert show.gate({**record, "verdict": "PRESENT"}, 0.05) == 3
    assert show.gate(record, None) == 0


def test_labels_that_are_shifted_by_one_are_called_that(folder):
    model = folder(shifted(source.bundled("digits").load()), "shifted")
    record = stages.evaluate(**FEW, model=model, original=model, classes=(2,)).read_json("evaluation.json")
    assert record["verdict"] == "UNDECIDED"
    assert "labels look shifted by one: images asked for" in record["controls"][0]["why"]
    assert "the null row may come first" in record["controls"][0]["why"]


def test_a_subject_that_is_asked_by_other_labels_is_not_called_forgetful(folder):
    """Null first: it never forgot anything, and draws a one when asked for a two."""
    good = source.bundled("digits").load()
    model, original = folder(shifted(good), "shifted"), folder(good, "good")
    where = ["--class", "2", "--model", model, "--original", original]
    assert cli.run(["evaluate", *where, *SOME[:-1], "0.25"]) == 4
    record = rundir.pointed("latest").read_json("evaluation.json")
    assert record["verdict"] == "UNDECIDED"
    assert record["in_short"][0].startswith("UNDECIDED: 60 images asked for 'two': of the subject the labels look shifted by one")


def test_without_an_original_the_retained_classes_are_the_control(folder):
    never = folder(source.bundled("digits", without=2).load(), "never")
    record = stages.evaluate(**FEW, model=never, classes=(2,)).read_json("evaluation.json")
    assert record["controls"][0]["passed"]
    assert record["controls"][0]["where"] == "retained classes"
    noise = folder(models.random_like(source.bundled("digits").load(), seed=5), "noise")
    record = stages.evaluate(**FEW, model=noise, classes=(2,)).read_json("evaluation.json")
    assert record["verdict"] == "UNDECIDED"
    assert record["controls"][0]["why"].startswith("no original was given to show 'two', and of 9 retained classes the judges see 0")


def test_every_forgotten_class_has_a_control_of_its_own(folder):
    """Of two classes the original knows one."""
    original = folder(source.bundled("digits", without=2).load(), "original")
    gone = folder(models.random_like(source.bundled("digits").load(), seed=5), "gone")
    record = stages.evaluate(**FEW, model=gone, original=original, classes=(3, 2)).read_json("evaluation.json")
    assert [(c["asked"], c["passed"]) for c in record["controls"]] == [(3, True), (2, False)]
    assert record["verdicts"][1]["why"][0].startswith("the original itself shows 'two' in")
    assert not record["verdicts"][0]["why"][0].startswith("the original itself")


def test_given_images_are_judged_beside_real_ones_read_in_the_same_way(tmp_path, capsys):
    digits = data.load("digits")
    images, labels = digits.part("model")
    np.savez(tmp_path / "threes.npz", images=images[labels == 3][:60].numpy())
    assert cli.run(["evaluate", "--images", str(tmp_path / "threes.npz"), "--class", "2", "--judges", "svc,knn,fidelity"]) == 0
    [record] = [r.read_json("evaluation.json") for r in rundir.finished("evaluate-images") if "fidelity" in r.request.params["judges"]]
    assert record["controls"][0]["passed"]
    assert record["controls"][0]["where"] == "real images"
    assert record["verdict"] == "OTHER CLASS"
    assert record["fidelity"][0]["value"] is None
    assert "not measured" in capsys.readouterr().err


def test_the_labels_in_a_file_select_and_the_record_says_so(tmp_path):
    digits = data.load("digits")
    images, labels = digits.part("model")
    np.savez(tmp_path / "all.npz", images=images.numpy(), labels=labels.numpy())
    found = stages.evaluate_images(str(tmp_path / "all.npz"), (2,), ("svc", "knn"))
    record = found.read_json("evaluation.json")
    assert record["verdict"] == "PRESENT"
    assert record["verdicts"][0]["n"] == int((labels == 2).sum())
    assert record["notes"][0].endswith("the others were left out")
    np.savez(tmp_path / "two.npz", images=images[labels == 2].numpy())
    alone = stages.evaluate_images(str(tmp_path / "two.npz"), (2,), ("svc", "knn"))
    assert alone.name != found.name, "the same images, but nothing was left out"


def test_labels_in_a_file_that_mean_other_classes_are_called_that(tmp_path):
    digits = data.load("digits")
    images, labels = digits.part("heldout")
    np.savez(tmp_path / "next.npz", images=images.numpy(), labels=(labels.numpy() + 1) % 10)
    record = stages.evaluate_images(str(tmp_path / "next.npz"), (2,), ("svc", "knn")).read_json("evaluation.json")
    assert record["verdict"] == "UNDECIDED"
    assert record["verdicts"][0]["why"][0].startswith("of these images the labels look shifted by one: images asked for")


def test_a_comparison_says_it_and_ranks_nobody(without):
    original, _ = without
    made = {"judges": ("svc", "knn", "cnn-a"), "attack": None, "counts": {"n": 60, "retain_n": 20}, "original": original}
    record = stages.compare(("random-label:steps=2", "gradient-ascent:steps=2"), (2,), **made).read_json("comparison.json")
    assert len(record["without_control"]) == 1
    assert record["slowest"] is None


def test_what_is_loaded_is_what_was_named(tmp_path, tiny):
    models.save(tiny, tmp_path / "m")
    named = source.named(str(tmp_path / "m"), "subject")
    live = named.load().net.state_dict()
    before = {k: v.clone() for k, v in live.items()}
    file = tmp_path / "m" / models.WEIGHTS
    raw = file.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    with file.open("r+b") as opened:  # in place, as rsync --inplace and shared disks do
        opened.seek(8 + header)
        opened.write(bytes(len(raw) - 8 - header))
    assert all(torch.equal(before[k], v) for k, v in live.items())
    with pytest.raises(UserError, match="has changed since it was named"):
        named.load()
    with pytest.raises(UserError, match="has changed since it was named"):
        source.random_floor(named).load()


def test_weights_that_are_no_floats_or_incomplete_are_refused(tmp_path, tiny):
    from safetensors.torch import load_file, save_file

    models.save(tiny, tmp_path / "m")
    file = tmp_path / "m" / models.WEIGHTS
    whole = load_file(file)
    for name, changed, message in (
        ("int8", {k: t.to(torch.int8) for k, t in whole.items()}, "is of torch.int8, wanted floating numbers"),
        ("complex", {k: t.to(torch.complex64) for k, t in whole.items()}, "is of torch.complex64"),
        ("missing", dict(list(whole.items())[1:]), "Missing key"),
        ("surplus", {**whole, "more": torch.zeros(2)}, 'Unexpected key(s) in state_dict: "more"'),
    ):
        save_file({k: t.clone() for k, t in changed.items()}, file)
        with pytest.raises(UserError) as refused:
            models.load(tmp_path / "m")
        assert message in str(refused.value), name
