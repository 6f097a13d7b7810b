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
    curves: dict[str, list[dict[str, Any]]] = record["curves"]
    for setting in dict.fromkeys(p["setting"] for p in curves["subject"]):
        steps = [p["step"] for p in curves["subject"] if p["setting"] == setting]
        rows = [
            (ROLE_NAMES[role], *[f"{100 * p['hits'] / p['n']:.0f}" for p in curves[role] if p["setting"] == setting])
            for role in ROLE_NAMES
            if role in curves
        ]
        if "gate" in record["cells"]:
            rows.append(("gate, past it", *[f"{100 * p['hits'] / p['n']:.0f}" for p in curves["original"] if p["setting"] == setting]))
        n = curves["subject"][0]["n"]
        title = f"{terminal.plain(record['models']['subject'])}: {run.request.method}, {setting}\n"
        title += f"% judged class {record['classes'][0]} after k steps, n = {n}, by the attacker's judge"
        terminal.table(title, ["model", *map(str, steps)], rows, sections=(len(rows) - 1,))
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    if "gate" in record["cells"]:
        terminal.say("- gate: the attacker reads the weights past it, and finds the original's network: the same run")
    terminal.say(f"- floors: {floors(record['models'])}")
    _excess([Measure.model_validate(m) for m in record["excess"]])
    terminal.say("intervals hold together over all points and learning rates; one training seed")
    terminal.say(
        f"the attacker's judge: {record['judge']}; auditkit evaluate reports by judges fitted on other images, whose numbers differ"
    )


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
        terminal.say(f"{setting}: largest excess over {floor}: {points(worst)} after {at} steps")


def points(measure: Measure) -> str:
    """A difference of shares in points, with its interval."""
    if measure.value is None:
        return f"not measured ({measure.note})"
    value, low, high = (round(100 * (v or 0)) for v in (measure.value, measure.low, measure.high))
    return f"{value:+d} points [{low:+d}, {high:+d}]"


def evaluation(run: Run) -> None:
    """What each judge reads in each set of images, its own vote on matched noise beside it, one sentence per judge."""
    _evaluation(run.read_json("evaluation.json"))


def audit(run: Run) -> None:
    """The evaluation, the recovery curves with their floors, and where the pictures are."""
    record = run.read_json("summary.json")
    _evaluation(record)
    for picture in ("grid.png", "curves.png"):
        terminal.say(f"picture: {run.file(picture)}")


def _evaluation(record: dict[str, Any]) -> None:
    judges = [c["judge"] for c in record["cards"]]
    rows, sections = [("real, heldout", _n(record["cards"][0]["real_class"]), *[_cell(c["real_class"]) for c in record["cards"]])], [0]
    last = "untouched"
    for entry in record["sets"]:
        if entry["set"] != last:
            last = entry["set"]
            sections.append(len(rows) - 1)
        name = ROLE_NAMES[entry["role"]] if last == "untouched" else f"{last}: {entry['role']}"
        hits = {r["judge"]: r["hit"] for r in entry["readings"]}
        rows.append((terminal.plain(name), _n(hits[judges[0]]), *[_cell(hits[j]) for j in judges]))
        if entry["role"] == "subject" and last == "untouched":
            for form in record["cards"][0]["noise"]:
                noise = [c["noise"][form]["hit"] for c in record["cards"]]
                rows.append((terminal.plain(f"noise {form}"), _n(noise[0]), *[_cell(h) for h in noise]))
    sinks = ", ".join(f"{c['judge']} {c['sink']} ({100 * c['sink_share']['value']:.0f} %)" for c in record["cards"])
    when = "; ".join(f"{name}: after {h['step']} steps at {h['setting']}" for name, h in record["headlines"].items())
    caption = f"noise: matched to the subject's output. What each judge calls it most often: {sinks}"
    caption += f"\nattacks are shown where the subject exceeds its highest floor most: {when}" if when else ""
    title = f"{terminal.plain(record['subject'])}: % of images judged class {record['class']}, 95 % interval below"
    terminal.table(title, ["images", "n", *judges], rows, sections=tuple(sections), caption=caption)
    _classic(record)
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    for name, made in record["attacks"].items():
        budget = ", ".join(f"{k} {v}" for k, v in made["params"].items())
        terminal.say(f"- {name}: {budget}; seed {made['seed']}; floors: {floors(made['models'])}")
    for sentence in record["sentences"]:
        terminal.say(f"- {sentence}")
    changes = [m for m in map(Measure.model_validate, record["retained"]) if "change" in m.name]
    if changes:
        each = ", ".join(f"{m.name.partition(':')[0]} {points(m)}" for m in changes)
        terminal.say(f"- retained classes, change against the original (n = {changes[0].n} each): {each}")
    for curve in record["curves"]:
        _curve(curve)
    terminal.err.print("\n[bold]In short[/]")
    for line in record["in_short"]:
        terminal.say(f"- {line}")


def _classic(record: dict[str, Any]) -> None:
    """The field's two numbers, UA and H, each next to the same judge's on noise from the same seeds."""
    subject = {r["judge"]: r for r in record["sets"][0]["readings"]}
    rows = []
    for card in record["cards"]:
        ours, noise = subject[card["judge"]], card["noise"].get("eps=0", card["noise"]["histogram"])
        row = [_cell(ours["ua"]), _cell(noise["ua"])]
        row += [_nats(ours["entropy"]), _nats(noise["entropy"]), _cell(ours["entropy_share"]), _cell(noise["entropy_share"])]
        rows.append((card["judge"], *row))
    columns = ["judge", "UA %", "of noise", "H nats", "of noise", "H/ln K %", "of noise"]
    n = record["sets"][0]["readings"][0]["n"]
    title = f"the field's numbers for class {record['class']}, n = {n}: UA = 1 - rate, H = mean entropy per image, beside the noise's"
    terminal.table(title, columns, rows)


def _nats(measure: dict[str, Any]) -> str:
    if measure["value"] is None:
        return "not mea-\nsured"
    return f"{measure['value']:.2f}\n[dim]{measure['low']:.2f}-{measure['high']:.2f}[/dim]"


def _curve(curve: dict[str, Any]) -> None:
    steps = [p["step"] for p in next(iter(curve["lines"].values()))]
    rows = [(ROLE_NAMES[role], *[_cell(p["rate"]) for p in curve["lines"][role]]) for role in ROLE_NAMES if role in curve["lines"]]
    n = curve["lines"]["subject"][0]["rate"]["n"]
    title = f"{curve['attack']}, {curve['setting']}: % judged the class after k steps, n = {n} each, by {curve['judge']}"
    terminal.table(title, ["model", *map(str, steps)], rows)
    for floor, found in curve["excess"].items():
        worst = found["worst"]
        named = f"the highest floor ({worst['floor']})" if floor == "highest" else floor
        excess = points(Measure.model_validate(worst["excess"]))
        terminal.say(f"  largest excess over {named}: {excess} after {worst['step']} steps")
    if not curve["excess"]:
        terminal.say("  excess: not measured, no floor was run; this curve alone says nothing")


def _n(measure: dict[str, Any]) -> str:
    return str(measure["n"])


def _cell(measure: dict[str, Any]) -> str:
    return terminal.cell(Measure.model_validate(measure))


def gate(measures: list[dict[str, Any]], rate: float | None) -> int:
    """The exit code under --fail-on: 3 if any excess is surely above the rate, 4 if any may be or was not measured, else 0."""
    if rate is None:
        return 0
    found = [Measure.model_validate(m) for m in measures]
    failed = [m for m in found if m.low is not None and m.low > rate]
    undecided = [m for m in found if m.value is None or m.high is None or m.high > rate]
    for m in failed or undecided:
        terminal.say(f"--fail-on {rate:g}: {'failed' if failed else 'undecided'}: {m.name} {points(m)}")
    return 3 if failed else 4 if undecided else 0
