"""What compare and ablate print on stderr, read from the sealed run."""

from typing import Any

from auditkit import terminal
from auditkit.published import PRESETS
from auditkit.results import Measure
from auditkit.rundir import Run


def comparison(run: Run) -> None:
    """One row for each method: what is forgotten, what is lost, what comes back; then what each cost."""
    record = run.read_json("comparison.json")
    lines = [s for s in record["standings"] if not s["floor"]]
    attacked = record["attack"] is not None
    fidelity = sorted({n for s in lines for n in s["fidelity"] if n.startswith("subject: FID") and n.endswith(", retained")})[:1]
    title = f"{terminal.plain(record['data'])}: {len(record['classes'])} classes, {len(record['seeds'])} training seeds\n"
    title += "UA by the judge that gives least, beside the same judge's UA of matched noise"
    rows = [(_name(s), _text(s["ua"]), _text(s["noise_ua"], bare=True), _text(s["h"], 2, bare=True)) for s in lines]
    terminal.table(title, ["forgotten", "UA", "of noise", "H (nats)"], rows)
    for s in lines:
        terminal.say(f"- {s['entry']}: {_words(s)}")
    head = ["kept, and back", "the rest changed", *("FID of the rest" for _ in fidelity)]
    head += [f"{record['attack']} > floors", "AIN v retrained"] if attacked else []
    for name in fidelity:
        terminal.say(f"FID of the rest: {name.removeprefix('subject: ')}")
    title = "the rest: judged share of the retained classes, by the judge that sees most change"
    terminal.table(title, head, [_line(s, fidelity, attacked) for s in lines])
    if attacked:
        terminal.say("> floors: models whose class surely comes back more than in a retrained and in a random network, by both judges")
    for why in record.get("without_control", ()):  # not in runs of before
        terminal.say(f"! this comparison says nothing about forgetting, and nobody is ranked: {why}")
    if record["slowest"]:
        _slowest(record["slowest"])
    if record["matched"]:
        for name, found in record["matched"]["entries"].items():
            within = "" if found["within"] else ", which still costs more than allowed"
            terminal.say(f"- {name}: {found['knob']} = {found['value']:g} at equal retained quality{within}")
    if record["preset"]:
        said = PRESETS[record["preset"]]
        for name, numbers in said.published.items():
            terminal.say(f"- {name}, published (CIFAR-10): {numbers}")
        deviations = [*said.deviations, *([] if record["data"] == said.data else [f"{record['data']}, not {said.data}"])]
        terminal.say("! not the published numbers' protocol: " + "; ".join(deviations))
    spent = run.result.details.get("spent", {})
    for s in lines:
        mine = [v for k, v in spent.items() if k.rsplit("/", 2)[0] == s["entry"] and v]
        if mine:
            terminal.say(f"- {s['entry']}: {cost(mine)}")


def _slowest(found: dict[str, Any]) -> None:
    """Who is relearned slowest, and how surely later than each of the others."""
    away = [f"surely not, by every judge: {', '.join(found['within']) or 'none'}"]
    away += [f"surely: {', '.join(found['left_out'])}"] if found["left_out"] else []
    away += [f"not known: {', '.join(found['unknown'])}"] if found["unknown"] else []
    allowed = f"{100 * found['allowed']:g} points of the rest ({'; '.join(away)})"
    terminal.say(f"slowest to be relearned, of those that do not surely lose more than {allowed}: {found['entry']}")
    terminal.say(f"its steps to half, and the log-rank p, Holm's for all {found['pairs']} pairs since these curves chose it:")
    for name, other in found["against"].items():
        p = "not measured" if other["holm"] is None else f"{other['holm']:.2g}"
        terminal.say(f"- {_bound(other['ain'])} times those of {name}, p {p}")


def cost(spent: list[dict[str, Any]]) -> str:
    """Mean seconds by phase, network evaluations by phase, and the highest peak of memory."""
    whole = [m for m in spent if not m["resumed"]]
    parts = []
    if whole:
        before, after = (sum(m["seconds"][phase] for m in whole) / len(whole) for phase in ("preparation", "training"))
        mean = f" (mean of {len(whole)})" if len(whole) > 1 else ""
        parts.append(f"{before:.1f} + {after:.1f} s before and in training{mean}")
    rows = spent[0]["evaluations"]
    parts.append(f"{sum(rows.values()):,} network evaluations ({', '.join(f'{phase} {n:,}' for phase, n in rows.items()) or 'none'})")
    peaks = [m["peak_mb"] for m in spent if m["peak_mb"] is not None]
    parts.append(f"{max(peaks):.0f} MB at the peak (without a GPU the whole process)" if peaks else "memory not measured")
    return "; ".join(parts)


def _name(s: dict[str, Any]) -> str:
    return terminal.plain(s["entry"])


def _words(s: dict[str, Any]) -> str:
    return ", ".join(f"{word} {n}" for word, n in sorted(s["words"].items(), key=lambda pair: -pair[1]))


def _line(s: dict[str, Any], fidelity: list[str], attacked: bool) -> tuple[str, ...]:
    cells = [_name(s), _text(s["lost"], 1), *(_text(s["fidelity"].get(name), 2) for name in fidelity)]
    if attacked:
        above, against = s["above_floors"], (s["against"] or {}).get("retrained", {})
        cells.append("it is the floor" if s["is_floor"] else "not measured" if above is None else f"{above[0]} of {above[1]}")
        cells.append("1" if s["is_floor"] else _bound(against.get("ain")))
    return tuple(cells)


def _bound(ain: dict[str, Any] | None) -> str:
    """AIN with a sign where runs that never recovered make it a bound."""
    note = (ain or {}).get("note") or ""
    sign = {"at least": ">= ", "at most": "<= ", "neither": "? "}.get(note.split(":")[0].removesuffix(" bound"), "")
    return sign + _text(ain, 2)


def _text(measure: dict[str, Any] | None, digits: int = 0, *, bare: bool = False) -> str:
    if measure is None:
        return "not measured"
    text = Measure.model_validate(measure).text(digits)
    return text.split(" [")[0] if bare else text
