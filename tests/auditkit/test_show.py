import pytest

from auditkit import pictures, show, show_evaluation, terminal
from auditkit.results import Measure


def excess(value, low, high, note=None):
    return Measure(name="relearn: excess", value=value, n=100, low=low, high=high, note=note).model_dump()


@pytest.mark.parametrize(
    ("measures", "word", "rate", "code"),
    [
        ([excess(0.5, 0.4, 0.6)], "PRESENT", None, 0),
        ([excess(0.0, -0.02, 0.02)], "NO CLASS", 0.05, 0),
        ([excess(0.2, 0.1, 0.3), excess(0.0, -0.02, 0.02)], "NO CLASS", 0.05, 3),
        ([excess(0.1, 0.02, 0.2)], "NO CLASS", 0.05, 4),
        ([excess(None, None, None, "no floor was run")], "NO CLASS", 0.05, 4),
        ([excess(0.2, 0.1, 0.3), excess(None, None, None, "no floor was run")], "NO CLASS", 0.05, 3),
        ([excess(0.0, -0.02, 0.02)], "PRESENT", 0.05, 3),
        ([excess(0.0, -0.02, 0.02)], "UNDECIDED", 0.05, 4),
        ([excess(0.0, -0.02, 0.02)], "OTHER CLASS", 0.05, 0),
    ],
    ids=[
        "no gate asked for",
        "surely below",
        "surely above",
        "undecided",
        "not measured",
        "one failure decides",
        "the verdict fails it",
        "the verdict leaves it open",
        "another class is no failure",
    ],
)
def test_the_gate(measures, word, rate, code):
    assert show.gate({"gate": measures, "verdict": word}, rate) == code


@pytest.mark.fast
def test_foreign_text_is_escaped(capsys):
    terminal.say("[bold]not bold[/bold] [link=x]y[/link]")
    assert "[bold]not bold[/bold] [link=x]y[/link]" in capsys.readouterr().err


def test_progress_without_a_terminal_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", -1)
    with terminal.track("train", 10) as advance:
        advance(5)
    err = capsys.readouterr().err
    assert "train: 5/10, ETA" in err
    assert "\x1b" not in err


@pytest.mark.fast
def test_pictures_are_the_same_bytes_each_time():
    import torch

    rows = [("original", torch.zeros(3, 1, 8, 8, dtype=torch.uint8)), ("subject", torch.full((5, 3, 8, 8), 200, dtype=torch.uint8))]
    assert pictures.grid(rows, "title") == pictures.grid(rows, "title")
    line = [(0, Measure(name="a", value=0.1, n=10, low=0.0, high=0.4)), (10, Measure(name="b", value=None, n=0, note="none"))]
    panels = [("relearn", {"subject": line, "random": line})]
    assert pictures.curves(panels, "t", "y") == pictures.curves(panels, "t", "y")


def test_a_measure_that_was_not_measured_says_why(capsys):
    few = "not measured: needs more than k = 5 images a side, found 3 and 90"
    found = [Measure(name=name, value=None, n=3, note=few) for name in ("recall (pixels)", "recall (pixels), matched noise")]
    found.append(Measure(name="coverage (pixels)", value=0.5, n=90, low=0.4, high=0.6))
    show_evaluation._measures("density", {"density": [m.model_dump() for m in found]})
    err = " ".join(capsys.readouterr().err.split())
    assert "density, not measured: needs more than k = 5 images a side, found 3 and 90 (recall (pixels), recall (pixels), matched" in err
    assert err.count("needs more") == 1
