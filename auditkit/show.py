"""The tables that the commands print on stderr, read from sealed runs."""

from typing import Any

from auditkit import terminal
from auditkit.results import Measure
from auditkit.rundir import Run

ROLE_NAMES = {
    "subject": "SUBJECT",
    "original": "original",
    "retrained": "retrained (floor)",
    "random": "random (floor)",
    "gate": "gate, queried",
}


def attack(run: Run) -> None:
    """The curves of one attack by the attacker's own judge, and the subject's excess over each floor."""
    record = run.read_json("attack.json")
    _curves(run, record)
    if "control" in record and not record["control"]["passed"]:  # not in runs of before
        terminal.say(f"! this attack says nothing about forgetting: {record['control']['why']}")


def _curves(run: Run, record: dict[str, Any]) -> None:
    curves: dict[str, list[dict[str, Any]]] = record["curves"]
    for role, why in record["failed"].items():
        terminal.say(f"{ROLE_NAMES[role]}: {why}")
    if not any(p["step"] > 0 for p in curves["subject"]):
        _grid(run, record)
        return
    for setting in dict.fromkeys(p["setting"] for p in curves["subject"]):
        steps = [p["step"] for p in curves["subject"] if p["setting"] == setting]
        rows = [
            (ROLE_NAMES[role], *[f"{100 * p['hits'] / p['n']:.0f}" for p in curves[role] if p["setting"] == setting])
            for role in ROLE_NAMES
            if role in curves
        ]
        if "gate" in record["cells"] and "gate" not in curves:
            rows.append(("gate, past it", *[f"{100 * p['hits'] / p['n']:.0f}" for p in curves["original"] if p["setting"] == setting]))
        n = curves["subject"][0]["n"]
        title = f"{terminal.plain(record['models']['subject'])}: {run.request.method}, {setting}\n"
        title += f"% judged class {record['classes'][0]} after k steps, n = {n}, by the attacker's judge"
        terminal.table(title, ["model", *map(str, steps)], rows, sections=(len(rows) - 1,))
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    if "gate" in record["cells"] and "gate" not in curves:
        terminal.say("- gate: the attacker reads the weights past it, and finds the original's network: the same run")
    terminal.say(f"- floors: {floors(record['models'])}")
    for note in record["notes"]["subject"]:
        terminal.say(f"- {note}")
    _excess([Measure.model_validate(m) for m in record["excess"]])
    terminal.say("intervals hold together over all points and learning rates; one training seed")
    terminal.say(
        f"the attacker's judge: {record['judge']}; auditkit evaluate reports by judges fitted on other images, whose numbers differ"
    )


def _grid(run: Run, record: dict[str, Any]) -> None:
    """An attack that tries settings or measures: one row for each, one column for each model."""
    roles = [role for role in ROLE_NAMES if record["curves"].get(role)]
    points = {role: {p["setting"]: p for p in record["curves"][role]} for role in roles}
    settings = dict.fromkeys(setting for role in roles for setting in points[role])
    rows = [(setting, *[_percent(points[role].get(setting)) for role in roles]) for setting in settings]
    title = f"{terminal.plain(record['models']['subject'])}: {run.request.method}\n"
    title += f"% that count for class {record['classes'][0]}; chosen: on fresh seeds, n = {record['curves']['subject'][-1]['n']}"
    terminal.table(title, ["setting", *[ROLE_NAMES[role].split(",")[0].replace(" (floor)", "") for role in roles]], rows)
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    for note in record["notes"]["subject"]:
        terminal.say(f"- {note}")
    _excess([Measure.model_validate(m) for m in record["excess"]])
    terminal.say(f"by the attacker's judge, {record['judge']}; auditkit attack quick reports by two others")


def _percent(point: dict[str, Any] | None) -> str:
    return "-" if point is None else f"{100 * point['hits'] / point['n']:.0f}"


def floors(models: dict[str, str]) -> str:
    """Which models the floors are."""
    return ", ".join(f"{role} = {models[role]}" for role in ("random", "retrained") if role in models) or "none was run"


def _excess(measures: list[Measure]) -> None:
    """One line for each floor and learning rate: the worst point for the subject."""
    groups: dict[tuple[str, str], list[tuple[int, Measure]]] = {}
    for m in measures:
        floor, setting, step = m.name.split("/")
        groups.setdefault((setting, floor), []).append((int(step), m))
    for (setting, floor), found in sorted(groups.items()):
        at, worst = max(found, key=lambda item: item[1].value if item[1].value is not None else -2)
        terminal.say(f"{setting}: largest excess over {floor}: {points(worst)}" + (f" at step {at}" if at else ""))


def points(measure: Measure) -> str:
    """A difference of shares in points, with its interval."""
    if measure.value is None:
        return f"not measured ({measure.note})"
    value, low, high = (round(100 * (v or 0)) for v in (measure.value, measure.low, measure.high))
    return f"{value:+d} points [{low:+d}, {high:+d}]"


def gate(record: dict[str, Any], rate: float | None) -> int:
    """The exit code under --fail-on: 3 if the verdict is PRESENT or an excess surely above the rate, 4 if undecided, else 0.

    Where the positive control failed, no excess says anything: 4, but for PRESENT.
    """
    if rate is None:
        return 0
    without = [c["why"] for c in record.get("controls", ()) if not c["passed"]]
    if without and record["verdict"] != "PRESENT":
        terminal.say(f"--fail-on {rate:g}: undecided: {without[0]}")
        return 4
    found = [Measure.model_validate(m) for m in record["gate"]]
    failed = [m for m in found if m.low is not None and m.low > rate]
    undecided = [m for m in found if m.value is None or m.high is None or m.high > rate]
    for m in failed or undecided:
        terminal.say(f"--fail-on {rate:g}: {'failed' if failed else 'undecided'}: {m.name} {points(m)}")
    if record["verdict"] in ("PRESENT", "UNDECIDED"):
        terminal.say(f"--fail-on {rate:g}: the verdict is {record['verdict']}")
    return 3 if failed or record["verdict"] == "PRESENT" else 4 if undecided or record["verdict"] == "UNDECIDED" else 0
