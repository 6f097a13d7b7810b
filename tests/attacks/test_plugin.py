"""An attack from the command line: the 20 lines of docs/attacks.md, and everything that can be wrong with one."""

import json
import re
from pathlib import Path

import pytest
import torch

from auditkit import rundir, stages
from auditkit.cli import run
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit.stages.aim import aim
from auditkit_attacks import plugin
from auditkit_attacks.target import AttackResult, Cost, Point

DOCS = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
[CODE] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
HEAD = """
from dataclasses import dataclass
import torch
from auditkit_attacks.target import AttackResult, Cost, Point
TIER = "query"
@dataclass(frozen=True)
class Budget:
    n: int = 4
def made(images, hits=0):
    point = Point(setting="s", step=0, hits=hits, n=len(images))
    return AttackResult(curve=(point,), images={"s/0": images}, cost=Cost(evaluations=0, sampled_images=0))
"""


def test_the_attack_of_the_docs_undoes_what_it_says(here):
    """A row that was moved three quarters of the way to the null row comes back when it is pushed three times as far away."""
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 20
    (here / "mine.py").write_text(CODE)
    attack = plugin.load("mine:push")
    faint = source.planted("faint", source.bundled("digits"), 2, "digits", 0)
    from auditkit import data

    target = aim(faint, data.load("digits"), (2,), tier=attack.TIER)
    result = attack.run(target, attack.Budget(explore=20, n=50), seed=0)
    assert result.chosen == "push=3"
    assert result.curve[-1].hits > 40
    assert result.curve[0].hits < 15, "push=0 is the model as it is"


def test_the_command_runs_it_on_every_control_with_one_and_two_workers(here, capsys):
    (here / "mine.py").write_text(CODE)
    original = str(source.ZOO / "digits")
    arguments = ["attack", "--attack", "mine:push", "--model", original, "--original", original, "--class", "2", "--json"]
    arguments += ["-n", "10", "--set", "explore=5"]
    assert run([*arguments, "--jobs", "1"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert set(first["curves"]) == {"subject", "original", "random", "retrained"}
    assert first["excess"]
    asked = rundir.find(first["run"]).request
    assert asked.method == "own-mine-push"
    assert asked.params["plugin"][0] == "mine:push"
    assert first["curves"]["subject"][-1]["n"] == 10
    for done in rundir.finished("attack-"):
        rundir.remove(done.name)
    assert run([*arguments, "--jobs", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == first["digest"]


def test_a_file_that_changed_under_a_running_process_is_refused(here):
    """Its old code would be sealed under the new file's hash."""
    (here / "mine.py").write_text(CODE)
    plugin.load("mine:push")
    (here / "mine.py").write_text(CODE + "# changed\n")
    with pytest.raises(UserError, match=r"mine\.py was changed after it was imported"):
        plugin.load("mine:push")


def test_hits_are_counted_by_the_attackers_judge_not_by_the_attack(here):
    (here / "liar.py").write_text(HEAD + "def attack(*a, **k): return made(torch.zeros(50, 1, 8, 8, dtype=torch.uint8), 50)")
    done = stages.attack("liar:attack", model=str(source.ZOO / "digits"), classes=(2,)).read_json("attack.json")
    assert [(p["hits"], p["n"]) for p in done["curves"]["subject"]] == [(0, 50)]
    alone = AttackResult(curve=(Point(setting="s", step=0, hits=3, n=5),), images={}, cost=Cost(evaluations=0, sampled_images=0))
    assert plugin.counted(alone, None).notes == ("counted by the attack itself, without images: s/0",)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "importing bad failed: ZeroDivisionError"),
        ("other = 1", "bad has no function attack"),
        ("def attack(*a, **k): ...", "bad needs a frozen dataclass Budget"),
        (HEAD.replace("frozen=True", "frozen=False") + "def attack(*a, **k): ...", "bad needs a frozen dataclass Budget"),
        (HEAD.replace('TIER = "query"', "") + "def attack(*a, **k): ...", "bad needs a TIER"),
        (HEAD.replace('"query"', '"quary"') + "def attack(*a, **k): ...", "TIER of bad"),
        (HEAD + "def attack(*a, **k): raise SystemExit(0)", "failed: SystemExit: 0"),
        (HEAD + "def attack(*a, **k): return 3", "wanted an AttackResult with a tuple of at least one point, got int"),
        (HEAD + "def attack(*a, **k): return made(torch.zeros(4, 1, 8, 8))", r"wanted uint8 (n, 1, 8, 8), got torch.float32 (4, 1, 8, 8)"),
        (HEAD + "def attack(*a, **k): return made(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), 5)", "0 to n hits"),
        (HEAD + "def attack(*a, **k): return AttackResult(curve=({},), images={}, cost=None)", "has Points, a Cost"),
        (HEAD + "def attack(*a, **k): return made([1])", "got list"),
        (
            HEAD + "def attack(*a, **k):\n    p = Point(setting='lr/x', step=0, hits=0, n=1)\n"
            "    return AttackResult(curve=(p,), images={}, cost=Cost(evaluations=0, sampled_images=0))",
            "a setting without '/'",
        ),
    ],
)
def test_what_is_no_attack_is_refused_in_one_line(here, code, message):
    (here / "bad.py").write_text(code)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        stages.attack("bad:attack", model=str(source.ZOO / "digits"), classes=(2,))
    assert "\n" not in str(caught.value)
    assert not [path for path in rundir.listing() if path.name.startswith("attack-")], "nothing is left behind"


def test_images_must_be_named_by_their_point():
    result = AttackResult(
        curve=(Point(setting="s", step=0, hits=0, n=1),),
        images={"other/0": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)},
        cost=Cost(evaluations=0, sampled_images=0),
    )
    target = type("Given", (), {"image_shape": (1, 8, 8)})()
    assert plugin.wrong(result, target) == "images are named by their point, setting/step; got other/0"


@pytest.mark.parametrize("spec", ["mine", "mine:", ":push", "a b:c"])
def test_a_plug_in_is_spelled_module_function(here, spec):
    assert run(["attack", "--attack", spec]) == 2


def test_it_is_an_attack_or_one_of_ours_not_both(here):
    assert run(["attack", "relearn", "--attack", "mine:push"]) == 2
