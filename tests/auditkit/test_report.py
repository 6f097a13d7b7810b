"""The report: one page from sealed runs. Everything foreign is escaped, nothing is fetched, nothing is left out silently."""

import html
import importlib
import json
import re
import sys

import pytest
import torch

from auditkit import data, pictures, rundir, stages
from auditkit.cli import run
from auditkit.errors import UserError
from auditkit.report import page
from auditkit.stages import source
from auditkit_attacks import ATTACKS, SUITES

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gate, a suite of three attacks on it, and an evaluation of it."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDITKIT_RUNS", str(folder))
        patch.setitem(SUITES, "quick", ("repeat", "readout", "relearn"))
        patch.setattr(
            sys.modules["auditkit.stages.suite"], "known", lambda asked, _: (dict.fromkeys(ATTACKS, True), dict.fromkeys(ATTACKS, asked))
        )
        patch.setattr(sys.modules["auditkit.stages.lineup"], "_budget", small)
        stages.unlearn("gate", (2,))
        suite = stages.suite("quick")
        evaluation = stages.evaluate(("knn",), n=50, retain_n=2)
        yield folder, suite, evaluation


@pytest.fixture
def runs(made, monkeypatch):
    folder, *done = made
    monkeypatch.setenv("AUDITKIT_RUNS", str(folder))
    return done


def small(attack, *_, **__):
    budget = importlib.import_module(ATTACKS[attack]).Budget
    return budget(steps=5, lrs=(5e-4,), n=100) if attack == "relearn" else budget(**({"explore": 10} if attack == "repeat" else {}), n=100)


def read(done):
    return done.file("report.html").read_text()


def test_the_verdict_comes_first_and_both_records_are_on_one_page(runs):
    text = read(stages.report())
    assert text == read(stages.report(runs[1].name)), "the latest run is meant"
    for word in (
        "GATED",
        "cheapest break",
        "readout",
        "Nothing is claimed beyond these",
        "Attacks beside their controls",
        "Recovery curves",
    ):
        assert word in text
    assert text.index("GATED") < text.index("<table") < text.index("Recipe and digests")
    assert re.search(r"<th scope=\"row\">knn", text), "the judge's card"
    assert all(done.digest in text for done in runs)
    assert "asked for" in html.unescape(text)


def test_it_needs_no_network_and_no_script_and_is_small(runs):
    text = read(stages.report())
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!data:image/)", text)
    assert "default-src 'none'" in text
    assert len(text) < 300_000
    assert text.count("data:image/png") > 10
    assert text.count("data:image/svg+xml") == 2, "the excess of each attack, and one recovery curve"


def test_redacted_it_holds_no_image_but_every_number(runs):
    whole, redacted = read(stages.report()), read(stages.report(redact=True))
    assert "data:image/png" not in redacted
    assert "Redacted" in redacted
    assert re.findall(r"<td class=\"n.*", whole) == re.findall(r"<td class=\"n.*", redacted)


def test_a_suite_alone_and_an_evaluation_alone_say_what_was_not_measured(runs):
    suite, evaluation = runs
    assert "Not measured: no evaluation" in page.render(**view(suite=suite.read_json("suite.json")))
    assert "no attack suite was run" in page.render(**view(evaluation=evaluation.read_json("evaluation.json")))


def test_every_foreign_word_is_escaped(runs):
    """Names of models, classes, judges, notes and flags come from files and users."""

    def poisoned(value):
        if isinstance(value, dict):
            return {key: poisoned(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poisoned(inner) for inner in value]
        return EVIL + value if isinstance(value, str) else value

    suite, evaluation = (poisoned(done.read_json(name)) for done, name in zip(runs, ("suite.json", "evaluation.json"), strict=True))
    suite["verdict"] |= {"word": "GATED", "cheapest": suite["rows"][0]["attack"]}
    evaluation["verdict"] = "PRESENT"
    text = page.render(
        **{**view(suite=suite, evaluation=evaluation), "title": EVIL, "recipe": [(EVIL, EVIL)], "runs": [(EVIL, EVIL)]},
    )
    assert "<img src=x" not in text
    assert text.count(html.escape(EVIL, quote=False).replace('"', "&#34;")) > 50


def view(suite=None, evaluation=None):
    return {
        "title": "t",
        "evaluation": evaluation,
        "suite": suite,
        "seconds": {},
        "sheets": [page.Sheet("s", [("<a>", "n = 1", pictures.strip(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))])],
        "plots": [],
        "recipe": [],
        "runs": [],
        "redacted": False,
    }


def test_a_run_of_another_kind_and_no_run_are_refused(runs, tmp_path, monkeypatch):
    cell = next(r for r in rundir.finished("attack-"))
    with pytest.raises(UserError, match="a report is about a run of audit, evaluate or attack quick"):
        stages.report(cell.name)
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "none"))
    with pytest.raises(UserError, match="nothing to report yet"):
        stages.report()
    assert not (tmp_path / "none").exists()


def test_the_command_writes_the_page_where_it_is_told(runs, tmp_path, capsys):
    assert run(["report", "--out", str(tmp_path / "page.html"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (tmp_path / "page.html").read_text() == read(rundir.find(printed["run"]))
    assert run(["report", "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert not (tmp_path / "no").exists()


def test_images_that_were_deleted_are_missed_not_invented(runs):
    """`runs rm` takes the pictures; the numbers stay."""
    suite = runs[0]
    text = sys.modules["auditkit.stages.report"].page(None, suite, {}, {}, redact=False)
    assert "Not shown: no images of these runs are at hand" in text
    assert "GATED" in text


def test_other_pictures_are_another_report(runs):
    """What lies on the page is in its request: a report after `runs rm` is not the one before."""
    whole = stages.report(runs[0].name)
    cell = next(r for r in rundir.finished("attack-readout") if r.request.role == "subject")
    kept = {path.name: path.read_bytes() for path in cell.path.iterdir()}
    rundir.remove(cell.name)
    fewer = stages.report(runs[0].name)
    cell.path.mkdir()
    for name, content in kept.items():
        (cell.path / name).write_bytes(content)
    assert fewer.name != whole.name
    assert read(fewer).count("data:image/png") < read(whole).count("data:image/png")


def test_without_a_name_it_is_about_the_newest_run_that_it_can_be_about(runs):
    rundir.point("latest", next(rundir.finished("unlearn-")))
    assert stages.report().request.parents["suite"] == runs[0].digest
    rundir.point("latest", runs[1])


def test_images_alone_are_not_called_a_model(runs, tmp_path):
    from PIL import Image

    for k in range(3):
        Image.fromarray(data.load("digits").images[k, 0].numpy()).save(tmp_path / f"{k}.png")
    text = read(stages.report(stages.evaluate_images(str(tmp_path), (2,), ("knn",)).name))
    assert "nothing is known of the model that made them" in text
    assert "forgotten" not in text.partition("</h1>")[0]
    assert "None" not in text


def test_another_models_evaluation_is_not_put_beside_it(runs):
    other = source.bundled("digits", without=2)
    done = stages.evaluate(("knn",), model=str(other.folder), original=str(source.ZOO / "digits"), classes=(2,), n=20, retain_n=1)
    assert "no attack suite was run" in read(stages.report(done.name))


def test_a_picture_strip_keeps_every_pixel():
    from io import BytesIO

    import numpy as np
    from PIL import Image

    images = torch.arange(3 * 3 * 4 * 5, dtype=torch.uint8).reshape(3, 3, 4, 5)
    sheet = np.asarray(Image.open(BytesIO(pictures.strip(images))))
    assert sheet.shape == (4, 17, 3)
    assert (sheet[:, 6:11] == images[1].permute(1, 2, 0).numpy()).all()
    assert (sheet[:, 5] == 255).all()


@pytest.mark.fast
def test_an_svg_keeps_its_words_and_rounds_its_paths():
    from auditkit.results import Measure

    line = [(1, Measure(name="m", value=0.5, n=9, low=0.4, high=0.6)), (10, Measure(name="m", value=0.7, n=9, low=0.6, high=0.8))]
    svg = pictures.curves([("lr=0.0005 <b>", {"subject": line})], "", "class $_$", "svg").decode()
    assert "lr=0.0005 &lt;b&gt;" in svg
    assert "class $_$" in svg, "a name, not a formula"
    assert not re.search(r"[ML] \d+\.\d\d", svg)
    assert svg == pictures.curves([("lr=0.0005 <b>", {"subject": line})], "", "class $_$", "svg").decode()
