"""The tables of an evaluation: verdicts first, then what each judge says, beside what it says about noise."""

import math
from typing import Any

from auditkit import terminal
from auditkit.results import Measure
from auditkit.rundir import Run
from auditkit.show import ROLE_NAMES, floors, points

CLASSIC_NOISE = "eps=0"


def evaluation(run: Run) -> None:
    """What each judge reads in each set of images, its own vote on controls beside it, one sentence per judge, and the verdict."""
    _evaluation(run.read_json("evaluation.json"))
    terminal.say(f"picture: {run.file('judges.png')}")


def audit(run: Run) -> None:
    """The evaluation, the recovery curves with their floors, and where the pictures are."""
    _evaluation(run.read_json("summary.json"))
    for picture in ("grid.png", "curves.png"):
        terminal.say(f"picture: {run.file(picture)}")


def _evaluation(record: dict[str, Any]) -> None:
    _rates(record)
    _classic(record)
    if "noise" in record["judges"]:
        _structure(record)
    for title in ("density", "fidelity"):
        if record[title]:
            _measures(title, record)
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    for control in record.get("controls", ()):  # not in runs of before
        terminal.say(f"{'-' if control['passed'] else '!'} {control['why']}")
    for name, made in record["attacks"].items():
        budget = ", ".join(f"{k} {v}" for k, v in made["params"].items())
        terminal.say(f"- {name}: {budget}; seed {made['seed']}; floors: {floors(made['models'])}")
    for sentence in record["sentences"]:
        terminal.say(f"- {sentence}")
    for entry in record["sets"][:1]:
        for evidence in entry["evidence"]:
            _similarity(evidence)
    changes = [m for m in map(Measure.model_validate, record["retained"]) if "change" in m.name]
    if changes:
        each = ", ".join(f"{m.name.partition(':')[0]} {points(m)}" for m in changes)
        terminal.say(f"- retained classes, change against the original (n = {changes[0].n} each): {each}")
    for curve in record["curves"]:
        _curve(curve)
    without = [c["why"] for c in record.get("controls", ())[:1] if not c["passed"]]
    if record["curves"] and without:
        terminal.say(f"! these curves say nothing about forgetting: {without[0]}")
    _verdicts(record)
    terminal.err.print("\n[bold]In short[/]")
    for line in record["in_short"]:
        terminal.say(f"- {line}")


def _name(entry: dict[str, Any], asked: int) -> str:
    role = ROLE_NAMES[entry["role"]] if entry["set"] in ("untouched", "given") else f"{entry['set']}: {entry['role']}"
    other = entry["verdict"]["asked"]
    return terminal.plain(role if other == asked else f"{role}, class {other}")


def _rates(record: dict[str, Any]) -> None:
    judges = [c["judge"] for c in record["cards"]]
    of_class = [c["classes"][record["class"]] for c in record["cards"]]
    rows, sections = [("real, heldout", _n(of_class[0]["hit"]), *[_cell(c["hit"]) for c in of_class])], [0]
    last = record["sets"][0]["set"]
    for index, entry in enumerate(record["sets"]):
        if entry["set"] != last:
            last = entry["set"]
            sections.append(len(rows) - 1)
        readings = [e["reading"] for e in entry["evidence"]]
        rows.append((_name(entry, record["class"]), _n(readings[0]["hit"]), *[_cell(r["hit"]) for r in readings]))
        if index == 0:
            rows.append(('  of them "no class"', _n(readings[0]["hit"]), *[_cell(r["refused"]) for r in readings]))
            for form in entry["evidence"][0]["controls"]:
                found = [e["controls"][form]["hit"] for e in entry["evidence"]]
                rows.append((terminal.plain(f"  {form}"), _n(found[0]), *[_cell(h) for h in found]))
            sections.append(len(rows) - 1)
    when = "; ".join(f"{name}: after {h['step']} steps at {h['setting']}" for name, h in record["headlines"].items())
    sinks = ", ".join(f"{c['judge']} {c['sink']} ({100 * c['sink_share']['value']:.0f} %)" for c in record["cards"])
    caption = "histogram, eps=...: noise matched to the subject; shuffled, phase, signs: its own images, scrambled"
    caption += f"\nwhat each judge calls N(0, 1) most often (n = {record['cards'][0]['sink_share']['n']}): {sinks}"
    caption += f"\nattacks are shown where the subject exceeds its highest floor most: {when}" if when else ""
    title = f"{terminal.plain(record['subject'])}: % of images judged class {record['class']}, 95 % interval below"
    title += f"\nprotocol {record['protocol']}: {record['deviations'][0]}"
    terminal.table(title, ["images", "n", *judges], rows, sections=tuple(sections), caption=caption)
    for deviation in record["deviations"][1:]:
        terminal.say(f"- protocol {record['protocol']}: {deviation}")


def _classic(record: dict[str, Any]) -> None:
    """The field's two numbers, UA and H, each next to the same judge's on noise, and what a limit of detection and Fano's bound say."""
    fano = {m["name"].partition(":")[0]: m for m in record["fano"] if "tight" in m["name"]}
    rows = []
    for card, evidence in zip(record["cards"], record["sets"][0]["evidence"], strict=True):
        controls = evidence["controls"]
        ours, noise = evidence["reading"], controls.get(CLASSIC_NOISE, controls["histogram"])
        row = [_cell(ours["ua"]), _cell(noise["ua"]), _nats(ours["entropy"]), _nats(noise["entropy"])]
        row += [_cell(evidence["share"]), f"{evidence['tv' if evidence['tv_open'] is None else 'tv_open']:.2f}"]
        lod = evidence["lod"]["value"]
        row.append("none" if lod is None else f"{lod:g}")
        row.append(_cell(fano[card["judge"]]) if card["judge"] in fano else "")
        rows.append((card["judge"], *row))
    columns = ["judge", "UA %", "noise", "H nats", "noise", "share %", "TV", "LoD", "Fano %"]
    first = record["sets"][0]["evidence"][0]
    n, noise_n, rung_n = first["reading"]["n"], first["controls"]["histogram"]["n"], first["lod"]["n"]
    real_n = record["cards"][0]["classes"][record["class"]]["hit"]["n"]
    title = f"class {record['class']}, n = {n}: UA = 1 - rate and H = mean entropy per image (of ln K = "
    title += f"{math.log(len(record['class_names'])):.2f}), beside the noise's"
    caption = "share: of the class in the mixture of card and control columns; Fano: least error about the class asked, given this judge\n"
    caption += f"TV: how far its column (n = {real_n}) is from histogram noise's (n = {noise_n}); "
    caption += f"LoD: smallest a of the ladder that it sees (n = {rung_n} each)"
    terminal.table(title, columns, rows, caption=caption)


def _structure(record: dict[str, Any]) -> None:
    found = record["sets"][0]["structure"]
    rows = [(terminal.plain(m["name"]), _number(m), terminal.plain(m["note"] or "")) for m in [*found["statistics"], found["flagged"]]]
    rows += [(terminal.plain(m["name"]), _number(m), terminal.plain(m["note"] or "")) for m in (found["sigma"], found["gaussian"])]
    p = "not measured" if found["p"] is None else f"{found['p']:.2g}"
    rows.append(("p of the whole set", p, terminal.plain(found["reason"] or "")))
    terminal.table("noise: are the pixels independent and identically distributed?", ["statistic", "value", "note"], rows)


def _similarity(evidence: dict[str, Any]) -> None:
    """A judge with captions says how close the images are to them, and how close noise is."""
    ours = evidence["reading"]["similarity"]
    control = evidence["controls"].get(CLASSIC_NOISE, evidence["controls"]["histogram"])
    if ours is not None and ours["value"] is not None and control["similarity"] is not None:
        texts = [Measure.model_validate(m).text(3) for m in (ours, control["similarity"])]
        terminal.say(f"- {evidence['judge']}: {ours['name']}: {texts[0]}; of its noise ({control['images']}): {texts[1]}")


def _measures(title: str, record: dict[str, Any]) -> None:
    suffixes = (", real v real", ", matched noise")
    by_name = {m["name"]: m for m in record[title]}
    rows: list[tuple[str, ...]] = []
    missing: dict[str, list[str]] = {}
    for name, m in by_name.items():
        if m["value"] is None:
            missing.setdefault(m["note"].removeprefix("not measured: "), []).append(name)
        if not name.endswith(suffixes):
            beside = [_number(by_name[name + s]) if name + s in by_name else "" for s in suffixes]
            rows.append((terminal.plain(name), str(m["n"]), _number(m), *beside))
    terminal.table(title, ["measure", "n", "images", "real v real", "noise"], rows)
    for why, names in missing.items():
        terminal.say(f"- {title}, not measured: {why} ({', '.join(names)})")


def _verdicts(record: dict[str, Any]) -> None:
    rows = []
    for entry in record["sets"]:
        seen = [e["judge"] for e in entry["evidence"] if str(entry["verdict"]["asked"]) in e["seen"]]
        structure = entry["structure"]
        a = structure["equivalent"]
        rows.append(
            (
                _name(entry, record["class"]),
                str(entry["verdict"]["n"]),
                f"{len(seen)} of {len(entry['evidence'])}",
                _cell(structure["flagged"]),
                "not mea-\nsured" if a["value"] is None else f"{a['value']:.2g}\n[dim]{a['low']:.2g}-{a['high']:.2g}[/dim]",
                entry["verdict"]["word"],
            )
        )
    caption = "seen by: judges that see the class; structure: % of images flagged by the noise test (1 % of noise is)\n"
    caption += "a: as visible as that share of a real image. The rule: docs/verdict.md"
    terminal.table("verdicts", ["images", "n", "seen by", "structure", "a", "verdict"], rows, caption=caption)


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


def _number(measure: dict[str, Any]) -> str:
    """A number of any unit with its interval below, or why there is none."""
    if measure["value"] is None:
        return "not measured"
    scale = 100 if measure["unit"] == "share" else 1
    text = f"{scale * measure['value']:.3g}{' %' if measure['unit'] == 'share' else ''}"
    if measure["low"] is None or measure["high"] is None:
        return text
    return f"{text}\n[dim]{scale * measure['low']:.2g} to {scale * measure['high']:.2g}[/dim]"


def _nats(measure: dict[str, Any]) -> str:
    if measure["value"] is None:
        return "not mea-\nsured"
    return f"{measure['value']:.2f}\n[dim]{measure['low']:.2f}-{measure['high']:.2f}[/dim]"
