"""A judge from the command line: the 20 lines of docs/judges.md, and everything that can be wrong with one."""

import re
import sys
from pathlib import Path

import pytest
import torch

import auditkit_evaluators
from auditkit.errors import UserError
from auditkit_evaluators import plugin

DOCS = Path(__file__).resolve().parents[2] / "docs" / "judges.md"


def test_the_judge_of_the_docs_judges(here, digits):
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (here / "mine.py").write_text(code)
    judge = auditkit_evaluators.build(["svc", "mine:ring_votes"], digits)[1]
    assert (judge.name, judge.family, judge.space) == ("ring-votes", "ring-votes", "pixels")
    images, labels = digits.part("heldout")
    votes = judge.judge(images)
    assert (votes.said == labels.numpy()).mean() > 0.2, "better than chance, if not by much"
    assert votes.abstain.mean() < 0.15
    noise = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert judge.judge(noise).abstain.all(), "auditkit gives it the answer no class"


def test_its_file_is_its_hash(here):
    (here / "hashed.py").write_text("def judge(x): return x\n")
    first = plugin.sha_of("hashed:judge")
    del sys.modules["hashed"]
    (here / "hashed.py").write_text("def judge(x): return x + 1\n")
    assert plugin.sha_of("hashed:judge") != first


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "importing bad failed: ZeroDivisionError"),
        ("other = 1", "bad has no function judge"),
        ("judge = 3", "bad has no function judge"),
        ("def judge(x): return x", r"wanted probabilities (170, 10) with rows that sum to 1, got (170, 1, 8, 8)"),
        ("import torch\ndef judge(x): return torch.zeros(len(x), 10)", "got NaN, negative values or other sums"),
        ("import torch\ndef judge(x): return torch.full((len(x), 10), float('nan'))", "got NaN, negative values or other sums"),
        ("def judge(x): raise SystemExit(0)", "failed on 170 images: SystemExit: 0"),
        ("raise SystemExit(0)", "importing bad failed: SystemExit: 0"),
        ("def judge(x): raise RuntimeError('no weights')", "failed on 170 images: RuntimeError: no weights"),
    ],
    ids=["import", "missing", "no function", "shape", "sum", "nan", "exits", "exits on import", "raises"],
)
def test_what_is_wrong_is_said_in_one_line(code, message, here, digits):
    (here / "bad.py").write_text(code + "\n")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        plugin.load("bad:judge", digits)
    assert "\n" not in str(caught.value)


def test_it_can_neither_print_to_stdout_nor_change_the_images(here, digits, capsys):
    (here / "rude.py").write_text(
        "import torch\nprint('import')\ndef judge(x):\n    print('call'); x.zero_(); return torch.full((len(x), 10), 0.1)\n"
    )
    before = digits.images.clone()
    judge = plugin.load("rude:judge", digits)
    judge.judge(digits.images[:3])
    assert torch.equal(digits.images, before)
    out, err = capsys.readouterr()
    assert out == ""
    assert "import" in err
    (here / "nameless.py").write_text("def __(x): return x\n")
    with pytest.raises(UserError, match="has no letter"):
        plugin.load("nameless:__", digits)


def test_no_module_and_no_file(here):
    with pytest.raises(UserError, match="importing nowhere failed: ModuleNotFoundError"):
        plugin.sha_of("nowhere:judge")
    with pytest.raises(UserError, match="is no file"):
        plugin.sha_of("sys:exit")


def test_two_judges_of_one_name_are_refused(here, digits):
    (here / "twin.py").write_text("import torch\ndef svc(x): return torch.full((len(x), 10), 0.1)\n")
    with pytest.raises(UserError, match="two judges are called svc"):
        auditkit_evaluators.build(["svc", "twin:svc"], digits)
