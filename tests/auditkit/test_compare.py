"""Methods side by side: what is asked for, the table's arithmetic on rows whose truth is known, and one small comparison end to end."""

import importlib
import json

import numpy as np
import pytest

from auditkit import data, rundir, show_compare, stages
from auditkit.cli import run
from auditkit.errors import UserError
from auditkit.published import PRESETS
from auditkit.stages import matching
from auditkit.stages.choice import Choice
from auditkit.stages.entries import entry
from auditkit.stages.evaluate import evaluate
from auditkit.stages.reporting import reporters
from auditkit.stages.slowest import slowest
from auditkit.stages.standings import standings

NONE = {"judge_weights": None}
compare_stage = importlib.import_module("auditkit.stages.compare")  # the function hides the module


def share(value):
    return {"name": "x", "value": value, "n": 100, "low": 0.0, "high": 1.0, "unit": "share", "safer": "neither", "note": None}


def row(name, k, s, *, ua=(0.9, 0.7), lost=(-0.01, -0.03), curve=(), word="NO CLASS", reach=0.0):
    judges = {j: {"ua": share(u), "h": {**share(1.0), "unit": "nats"}, "noise_ua": share(0.5)} for j, u in zip("ab", ua, strict=True)}
    retained = {j: share(v) for j, v in zip("ab", lost, strict=True)}
    excess = {"value": 0.1, "low": 0.0, "at": "x/1", "floor": "random", "reach": reach}
    rest = {"word": word, "judges": judges, "retained": retained, "fidelity": [], "curve": list(curve), "excess": excess, "is_floor": None}
    return {"entry": name, "floor": False, "model": f"{name}-{k}-{s}", "class": k, "seed": s, **rest}


def line(*hits):
    return [[step, h, 100] for step, h in zip((0, 10, 100), hits, strict=True)]


def test_an_entry_is_a_method_with_its_settings():
    made = entry("salun:objective=ga,mask-ratio=0.3")
    assert (made.method, made.params) == ("salun", {"objective": "ga", "mask_ratio": "0.3"})
    assert entry("safemax").params == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("safemx", "safemax"),
        ("salun:objective", "NAME=VALUE"),
        ("salun:objectiv=ga", "objective"),
        ("salun:objective=up", "objective"),
        ("safemax:lam=-1", "--lam"),
        ("safemax:steps=many", "whole number"),
    ],
)
def test_an_entry_that_no_run_could_use_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        entry(text)


def test_the_table_names_the_judge_that_gives_least_and_the_one_that_sees_most_loss():
    rows = [row("m", k, s, ua=(0.9, 0.6 + 0.1 * k), lost=(-0.01, -0.02 * k)) for k in (0, 1, 2) for s in (0, 1)]
    (found,) = standings(rows)
    assert found["ua"]["name"] == "b: UA"
    assert found["ua"]["value"] == pytest.approx(0.7)
    assert (found["ua"]["low"], found["ua"]["high"]) == pytest.approx((0.7 - 4.3027 * 0.1 / 3**0.5, 0.7 + 4.3027 * 0.1 / 3**0.5), abs=1e-3)
    assert found["lost"]["name"].startswith("b:")
    assert found["lost"]["value"] == pytest.approx(-0.02)
    assert found["words"] == {"NO CLASS": 6}
    assert found["ua_by_judge"]["a"]["value"] == pytest.approx(0.9)


def test_one_row_keeps_the_interval_of_its_images():
    (found,) = standings([row("m", 2, 0, ua=(0.9, 0.7))])
    assert found["ua"] == share(0.7)


def test_a_number_that_a_model_lacks_is_not_measured():
    rows = [row("m", k, 0) for k in range(3)]
    rows[1]["retained"] = {}
    (found,) = standings(rows)
    assert found["lost"]["value"] is None
    assert "not measured for every model" in found["lost"]["note"]


def test_who_relearns_later_than_the_floor_has_an_ain_above_one():
    late, soon = line(0, 20, 90), line(5, 80, 100)
    rows = [row("m", k, s, curve=late) for k in range(4) for s in range(3)]
    rows += [{"entry": "retrained", "floor": True, "class": k, "seed": s, "curve": soon} for k in range(4) for s in range(3)]
    found = standings(rows)
    against = found[0]["against"]["retrained"]
    assert against["ain"]["value"] == pytest.approx(101 / 11)
    assert against["ain"]["note"] is None
    assert against["censored"] == [0, 0, 12, 12]
    assert against["logrank"]["value"] == 2 / 2**4  # four classes agree: no test of four can say more
    assert found[0]["curve"][1]["rate"]["value"] == pytest.approx(0.2)
    assert found[1]["words"] is None
    assert found[1]["curve"][1]["rate"]["value"] == pytest.approx(0.8)


def compared(curves, lost=None, classes=8):
    """Rows of entries whose curve is a function of the class, and their table."""
    lost = lost or {}
    rows = [row(m, k, s, curve=c(k), lost=(lost.get(m, -0.002),) * 2) for m, c in curves.items() for k in range(classes) for s in range(3)]
    for r in rows:
        for m in r["retained"].values():
            m.update(low=m["value"] - 0.001, high=m["value"] + 0.001)
    return rows, standings(rows)


def test_the_slowest_of_those_that_keep_the_rest():
    """`wrecks` is slower still, but loses 3 points; `b` is sooner in every class, `c` in half of them."""
    late, soon = line(0, 0, 90), line(0, 90, 95)
    curves = {"a": lambda k: late, "b": lambda k: soon, "c": lambda k: soon if k % 2 else late, "wrecks": lambda k: line(0, 0, 0)}
    rows, table = compared(curves, {"wrecks": -0.03, "c": -0.01})
    found = slowest(rows, table, None)
    assert found["within"] == ["a", "b"]
    doubted = next(s for s in table if s["entry"] == "b")["lost_by_judge"]["a"]
    doubted["low"] = -0.02  # by the judge whose mean is not the least
    assert slowest(rows, table, None)["within"] == ["a"]
    assert (found["entry"], found["allowed"], found["left_out"], found["unknown"]) == ("a", 0.01, ["wrecks"], [])
    assert found["against"]["b"]["ain"]["value"] > found["against"]["c"]["ain"]["value"] > 1
    p = {name: found["against"][name]["logrank"]["value"] for name in "bc"}
    assert p == {"b": 2 / 2**8, "c": 2 / 2**4}
    assert found["pairs"] == 3
    assert found["against"]["b"]["holm"] == pytest.approx(3 * p["b"])
    assert found["against"]["c"]["holm"] == pytest.approx(2 * p["c"])  # of three p-values the second, like that of b and c
    assert slowest(rows, table, 0.5)["entry"] == "wrecks"
    assert slowest([r for r in rows if r["entry"] == "a"], table[:1], None) is None


def test_the_slowest_of_equals_is_not_surely_slower():
    """It was chosen by the curves that are tested: eight methods that are alike, many times."""
    rng, sure = np.random.default_rng(0), 0
    for _ in range(60):
        drawn = {m: [line(0, *rng.choice([[90, 95], [0, 90]])) for _ in range(10)] for m in "abcdefgh"}
        found = slowest(*compared({m: mine.__getitem__ for m, mine in drawn.items()}, classes=10), None)
        sure += any(v["holm"] < 0.05 for v in found["against"].values())
    assert sure <= 5


def test_a_method_whose_attack_diverged_in_a_class_is_not_compared():
    late = line(0, 0, 90)
    rows, _ = compared({"a": lambda k: late, "b": lambda k: late, "broke": lambda k: late if k else ()})
    floors = [{"entry": "retrained", "floor": True, "class": k, "seed": s, "curve": late} for k in range(8) for s in range(3)]
    table = standings([*rows, *floors])
    found = slowest(rows, table, None)
    assert found["unknown"] == ["broke"]
    assert set(found["against"]) == {"b"}
    assert found["against"]["b"]["holm"] == 1.0
    assert next(s for s in table if s["entry"] == "broke")["against"]["retrained"]["ain"]["n"] == 7


def test_models_above_both_floors_are_counted():
    rows = [row("m", k, 0, reach=0.1 if k else -0.1, curve=line(0, 1, 2)) for k in range(3)]
    assert standings(rows)[0]["above_floors"] == [2, 3]


@pytest.mark.parametrize(
    ("methods", "classes", "extra", "words"),
    [
        ((), (2,), {}, "none"),
        (("safemax", "safemax"), (2,), {}, "each once"),
        (("safemax",), (2, 2), {}, "each once"),
        (("safemax",), (11,), {}, "0 to 9"),
        (("safemax",), (2,), {"attack": "reversal"}, "floors differ"),
        (("safemax",), (2,), {"attack": "relern"}, "relearn"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_spent(methods, classes, extra, words, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path))
    with pytest.raises(UserError, match=words):
        stages.compare(methods, classes, **extra)
    assert not list(tmp_path.iterdir())


def test_a_comparison_end_to_end_and_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path))
    asked = {"judges": ("knn",), "counts": {"n": 20, "retain_n": 2}, "budget": {"steps": 1, "n": 10, "images": 5}}
    done = stages.compare(("safemax:steps=2,batch=4", "retrain"), (2,), **asked)
    record = done.read_json("comparison.json")
    assert [s["entry"] for s in record["standings"]] == ["safemax:steps=2,batch=4", "retrain", "retrained", "random"]
    assert [s["floor"] for s in record["standings"]] == [False, False, True, True]
    first, again = record["standings"][:2]
    assert first["words"] != {}
    assert all(s["lost"]["value"] is not None for s in (first, again))
    assert first["lost"]["value"] > -0.3  # two steps of four rows change little
    assert first["ua"]["value"] < 0.3
    assert again["ua"]["value"] > 0.5  # a model that never saw the class
    assert {p["step"] for p in first["curve"]} == {1}
    assert set(first["against"]) == {"retrained", "random"}
    assert (first["is_floor"], again["is_floor"], again["above_floors"]) == (False, True, None)
    assert set(again["against"]) == {"random"}  # it is the other floor itself
    spent = done.result.details["spent"]["safemax:steps=2,batch=4/2/0"]
    assert spent["evaluations"] == {"training": 48}
    assert set(spent["seconds"]) == {"preparation", "training"}
    show_compare.comparison(done)
    assert "2 of " not in capsys.readouterr().out  # data alone goes to stdout
    assert stages.compare(("safemax:steps=2,batch=4", "retrain"), (2,), **asked).digest == done.digest
    assert rundir.pointed("latest").name == done.name
    assert rundir.pointed("latest-model") is None  # whoever compares still means the same model
    assert (done.path / "tradeoff.png").stat().st_size > 5000
    assert (done.path / "curves.png").stat().st_size > 5000


def test_networks_of_ones_own_judge_the_models_and_what_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path))
    monkeypatch.setattr(Choice, "check", lambda self, dataset: asked.append(self.judge_weights))
    monkeypatch.setattr(compare_stage, "evaluate", lambda **call: (asked.append(call["judge_weights"]), evaluate(**call | NONE))[1])
    monkeypatch.setattr(compare_stage, "reporters", lambda of, k, given, *rest: (asked.append(given), reporters(of, k, None, *rest))[1])
    asked, counts = [], {"n": 20, "retain_n": 2}
    budget = {"steps": 1, "n": 10, "images": 5}
    stages.compare(("retrain",), (2,), judges=("knn",), counts=counts, budget=budget, judge_weights="mine.safetensors")
    assert asked == ["mine.safetensors"] * 4  # checked; judged, and again from its run; the attack


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"judge_weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"judge_weights": "empty"}, "holds no .safetensors file"),
        ({"counts": {"n": 0}}, "at least 1"),
        ({"judges": ("knm",)}, "knn"),
    ],
)
@pytest.mark.parametrize("ask", ["compare", "plan_compare", "audit"])
def test_judges_that_cannot_judge_are_refused_before_anything_is_spent(ask, given, words, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    alone = {"counts": {}, "seeds": 1, "attack": None, "data_name": "digits", "original": None}
    calls = {
        "compare": lambda: stages.compare(("safemax",), (2,), **given),
        "plan_compare": lambda: stages.plan_compare(("safemax",), (2,), **alone | given),
        "audit": lambda: stages.audit((2,), **({"params": {"evaluate": given["counts"]}} if "counts" in given else given)),
    }
    with pytest.raises(UserError, match=words):
        calls[ask]()
    assert not (tmp_path / "runs").exists()


def test_a_label_of_ones_own():
    made = entry("SalUn@salun:objective=ga")
    assert (made.name, made.method) == ("SalUn", "salun")
    with pytest.raises(UserError, match="LABEL"):
        entry("@salun")


def test_presets_are_settings_that_can_run_and_have_a_number_for_each_line():
    for name, preset in PRESETS.items():
        made = [entry(text) for text in preset.methods]
        assert [e.name for e in made] == list(preset.published), name
        assert preset.deviations
    steps = {e.name: e.params["steps"] for e in (entry(t) for t in PRESETS["paper-table1"].methods)}
    assert steps == {"SAFEMax": "1000", "SalUn": "1000", "SA": "20000"}


def test_matching_takes_the_strongest_setting_that_costs_no_more(tmp_path, monkeypatch):
    """Planted: a larger alpha keeps more and forgets less; at 1 % only the two largest are left, of which the smaller forgets more."""
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path))
    lost, shows = {0.125: 0.3, 0.5: 0.1, 1.0: 0.05, 2.0: 0.01, 8.0: 0.0}, {0.125: 0.0, 0.5: 0.0, 1.0: 0.1, 2.0: 0.2, 8.0: 0.5}
    made = []

    def unlearned(method, classes, params, **_):
        made.append(params["alpha"])
        return params["alpha"] / 3.0

    def right(draw, k, dataset):
        f = draw["model"]
        return (1.0, 0.95) if f is None else (shows[round(f, 3)], 0.95 - lost[round(f, 3)])

    monkeypatch.setattr(matching, "side_by_side", lambda *_: None)
    monkeypatch.setattr(matching, "unlearn", unlearned)
    monkeypatch.setattr(matching.source, "of_run", lambda run, role: run)
    monkeypatch.setattr(matching, "_right", right)
    entries = [entry("safemax"), entry("retrain")]
    chosen, found = matching.matched(entries, (2,), 0.011, None, data.load("digits"), None, None)
    assert chosen[0].params == {"alpha": 6.0}
    assert chosen[0].name == "safemax"
    assert chosen[1] == entries[1]
    assert found["entries"]["safemax"]["within"] is True
    assert [t["value"] for t in found["entries"]["safemax"]["tried"]] == [0.375, 1.5, 3.0, 6.0, 24.0]
    _, hard = matching.matched(entries, (2,), -0.1, None, data.load("digits"), None, None)
    assert (hard["entries"]["safemax"]["within"], hard["entries"]["safemax"]["value"]) == (False, 24.0)


def test_a_stronger_ascent_forgets_more():
    up = matching._moved(entry("gradient-ascent:beta=0.2"), 2.0)
    assert up.params == {"beta": 0.4}
    assert matching._strength(up, 2.0) < matching._strength(up, 1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare"], "--class is needed"),
        (["compare", "--class", "2", "--preset", "paper-table1", "--method", "salun"], "leave out --method"),
        (["compare", "--class", "2", "--preset", "paper-table2"], "paper-table1"),
        (["compare", "--class", "2", "--attack", "none", "--set", "steps=3"], "attack is none"),
        (["compare", "--class", "2", "--method", "salun:objective=x"], "objective"),
        (["ablate", "--class", "2", "--lam", "1,many"], "numbers separated by commas"),
        (["ablate", "--class", "2", "--psi", "cosine"], "psi"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    assert run(arguments) == 2
    assert words in capfd.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "runs").exists()


def test_dry_runs_say_what_it_would_cost(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    for arguments in (["compare", "--matched-fidelity", "0.01"], ["ablate"], ["compare", "--preset", "paper-table1", "--data", "digits"]):
        assert run([*arguments, "--class", "2", "--dry-run", "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["evaluations"] > 10**6
        assert "seconds" in found
    assert not (tmp_path / "runs").exists()


def test_an_interval_is_never_narrower_than_the_images_allow():
    """Two models, UA 1 in all of 500 images each: not [1, 1]; and two classes do not speak of others."""
    sure = {**share(1.0), "low": 0.993, "high": 1.0}
    rows = [row("m", k, 0) for k in (0, 1)]
    for r in rows:
        r["judges"]["a"]["ua"] = r["judges"]["b"]["ua"] = sure
    (found,) = standings(rows)
    assert found["ua"]["low"] == pytest.approx(1 - 0.0035 / 2**0.5)
    assert found["ua"]["high"] == 1.0
    assert "images alone" in found["ua"]["note"]


def test_one_model_judged_with_several_seeds_is_one_model():
    rows = [row("retrain", k, s) for k in range(4) for s in range(5)]
    for r in rows:
        r["model"] = f"floor-{r['class']}"
    (found,) = standings(rows)
    assert (found["models"], found["ua"]["n"]) == (4, 4)


def test_a_judge_that_was_not_measured_does_not_give_least():
    rows = [row("m", k, 0, ua=(0.9, 0.7)) for k in range(3)]
    rows[0]["judges"]["b"]["ua"] = {**share(None), "low": None, "high": None, "note": "none"}
    (found,) = standings(rows)
    assert found["ua"]["name"] == "a: UA"


def test_a_curve_that_broke_off_is_compared_where_it_went():
    rows = [row("m", k, 0, curve=line(0, 20, 90)[: 3 - (k == 1)]) for k in range(3)]
    (found,) = standings(rows)
    assert [p["step"] for p in found["curve"]] == [0, 10]


def test_runs_that_never_recovered_make_ain_a_bound_and_the_table_says_so():
    never, soon = line(0, 1, 2), line(5, 80, 100)
    rows = [row("m", k, s, curve=never) for k in range(4) for s in range(2)]
    rows += [{"entry": "retrained", "floor": True, "class": k, "seed": s, "curve": soon} for k in range(4) for s in range(2)]
    ain = standings(rows)[0]["against"]["retrained"]["ain"]
    assert ain["note"].startswith("at least")
    assert show_compare._bound(ain).startswith(">= ")
    assert show_compare._bound({**ain, "note": "neither bound: both"}).startswith("? ")
    assert show_compare._bound(None) == "not measured"


@pytest.mark.parametrize("text", ["my (floor)@salun", "x/1@salun", "_hidden@salun", "retrain:steps=7", "mine@retrain:steps=7"])
def test_labels_and_settings_that_would_mislead_are_refused(text):
    with pytest.raises(UserError):
        entry(text)


def test_a_label_may_be_a_floors_word(tmp_path, monkeypatch):
    """The floors stand apart: a method called "random" is attacked itself."""
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path))
    asked = {"judges": ("knn",), "counts": {"n": 10, "retain_n": 1}, "budget": {"steps": 1, "n": 5, "images": 5}}
    record = stages.compare(("random@safemax:steps=1,batch=2",), (2,), **asked).read_json("comparison.json")
    (mine,) = [r for r in record["rows"] if not r["floor"]]
    assert (mine["entry"], mine["is_floor"]) == ("random", None)
    assert mine["curve"][0][1] >= 4  # one step of two rows: still the class


TWICE = ["--method", "salun", "--method", "salun"]
ALIKE = ["--method", "a@esd", "--method", "b@esd"]


@pytest.mark.parametrize("extra", [TWICE, ALIKE, ["--attack", "relern"], ["--attack", "reversal"]])
def test_a_dry_run_refuses_what_the_command_refuses(extra, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    assert run(["compare", "--class", "2", *extra, "--dry-run"]) == 2
    assert run(["compare", "--class", "2", *extra]) == 2


def test_an_ablation_names_every_weight_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(stages, "plan_compare", lambda methods, *_, **__: asked.append(list(methods)) or stages.plan_sample)
    monkeypatch.setattr("auditkit.cli_compare.dry", lambda *_: None)
    assert run(["ablate", "--class", "2", "--lam", "0,1.25", "--psi", "exponential,snr,constant", "--dry-run"]) == 0
    ours = ["lam=0", "lam=1.25", "lam=1.25,psi_normalise=true", "lam=0,psi=snr", "lam=0,psi=snr,psi_normalise=true", "lam=0,psi=constant"]
    assert asked == [[f"safemax:{name}" for name in ours]]


def test_the_table_shows_one_fid(capsys, tmp_path, monkeypatch):
    """Of the dozens of fidelity measures, by class and real against real, the one of the papers' figure."""
    rows = [row("m", k, 0) for k in range(3)]
    fid = {**share(5.0), "low": 4.0, "high": 6.0, "unit": "FID"}
    for r in rows:
        r["fidelity"] = [{**fid, "name": f"subject: FID (judge), {which}"} for which in ("retained", "retained, real v real", "class 3")]
    (found,) = standings(rows)
    assert show_compare._line(found, ["subject: FID (judge), retained"], attacked=False)[2].startswith("5.00")
