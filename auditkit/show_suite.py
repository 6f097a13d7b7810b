"""What the attack suites and the selftest print on stderr, read from sealed runs."""

import importlib
from typing import Any

from auditkit import terminal
from auditkit.rundir import Run

ROLES = ("subject", "original", "sham", "retrained", "random", "gate")
SHOWN = 3  # names in a line
SHORT = {"retrained": "retr.", "original": "orig.", "subject": "SUBJ."}


def suite(run: Run) -> None:
    """The verdict, one row for each attack, the flags and the scope."""
    record = run.read_json("suite.json")
    roles = [r for r in ROLES if any(r in row["rates"] for row in record["rows"])]
    rows = [(_name(row), *[_least(row, role) for role in roles], _excess(row)) for row in record["rows"]]
    tiers = [row["tier"] for row in record["rows"]]
    ends = tuple(k for k in range(len(tiers) - 1) if tiers[k] != tiers[k + 1])
    judges = ", ".join(f"{name} ({100 * j['noise']:.0f} % on noise)" for name, j in record["judges"].items())
    seeds = _count(record["subjects"], "trained model") + ", " + _count(record["seeds"], "attack seed")
    title = f"{terminal.plain(record['subject'])}: attack {record['suite']}, {seeds}\n"
    title += f"% of images that show class {record['class']} to both judges: {judges}"
    terminal.table(title, ["attack", *[SHORT.get(r, r) for r in roles], "excess over floors (n)"], rows, sections=ends)
    terminal.say("* broken: surely more than 5 points above every floor by both judges, all attacks together (Holm)")
    for role, why in record["missing"].items():
        terminal.say(f"- {role}: {why}")
    for text in dict.fromkeys(f["text"] if not f["attack"] else "" for f in record["flags"]):
        if text:
            terminal.say(f"! {text}")
    unchecked = [f["attack"] for f in record["flags"] if f["text"].startswith("not validated")]
    if unchecked:
        terminal.say(f"! not validated (auditkit selftest): {', '.join(unchecked)}")
    for flag in record["flags"]:
        if flag["attack"] and not flag["text"].startswith("not validated"):
            terminal.say(f"! {flag['attack']}: {flag['text']}")
    for row in record["rows"]:
        for note in row["notes"]:
            terminal.say(f"- {row['attack']}: {note}")
        if row["coverage"]:
            each = ", ".join(f"{role} {_covered(found)}" for role, found in row["coverage"].items())
            terminal.say(f"- {row['attack']}, heldout images covered (of the attacker's own): {each}")
        for floor, found in row["recovery"].items():
            if floor != "steps" and found["ain"]["value"] is not None:
                m = found["ain"]
                p = found["logrank"]["value"]
                speed = f"AIN {m['value']:.2f} [{m['low']:.2f}, {m['high']:.2f}]{', ' + m['note'] if m['note'] else ''}"
                terminal.say(f"- {row['attack']} against {floor}: {speed}; log-rank p {'not measured' if p is None else f'{p:.2g}'}")
    terminal.say(record["scope"])
    verdict(record, run.result.details.get("seconds", {}))


def _covered(found: dict[str, dict[str, Any]]) -> str:
    held, own = found["heldout"], found["given"]
    low, high = 100 * held["low"], 100 * held["high"]
    return f"{100 * held['value']:.0f} % [{low:.0f}, {high:.0f}] of {held['n']} ({100 * own['value']:.0f} % of {own['n']})"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n > 1 else ''}"


def verdict(record: dict[str, Any], seconds: dict[str, float]) -> None:
    """The word, why, and what the cheapest break costs."""
    found = record["verdict"]
    terminal.say(f"{found['word']}: {'; '.join(found['why'])}")
    if found["cheapest"]:
        row = next(r for r in record["rows"] if r["attack"] == found["cheapest"])
        terminal.say(f"cheapest break: {found['cheapest']} ({cost(row, seconds)})")
    if found["also"]:
        terminal.say(f"also broken by {', '.join(found['also'])}")


def cost(row: dict[str, Any], seconds: dict[str, float]) -> str:
    """ "50 images of the class, 38,400 network evaluations, 4 seconds here"."""
    spent = row["cost"]
    parts = [f"{spent['forget_images']} images of the class", f"{spent['evaluations']:,} network evaluations"]
    if spent["parameters"]:
        parts.append(f"{spent['parameters']:,} numbers trained")
    steps = row["at"].split("/")[-1]
    if spent["parameters"] and steps.isdigit():
        parts.append(f"broken after {steps} steps")
    return ", ".join([*parts, *([f"{seconds[row['attack']]:.0f} s here"] if row["attack"] in seconds else [])])


def _name(row: dict[str, Any]) -> str:
    return f"{row['attack']}{'' if row['validated'] else ' ?'}{' *' if row['broken'] else ''}"


def _least(row: dict[str, Any], role: str) -> str:
    rates = [m["value"] for m in row["rates"].get(role, {}).values()]
    return f"{100 * min(rates):.0f}" if rates else "-"


def _excess(row: dict[str, Any]) -> str:
    e = row["excess"]
    if e is None:
        return "not measured"
    return f"{100 * e['value']:+.0f} [{100 * e['low']:+.0f}, {100 * e['high']:+.0f}] ({e['n']})"


def listing(attacks: dict[str, str], suites: dict[str, tuple[str, ...]], costs: dict[str, Any]) -> None:
    """Every attack with its tier, its cost at the default budget and the suites it belongs to."""
    rows = []
    for name, path in attacks.items():
        module = importlib.import_module(path)
        seconds = f"{costs[name]:,}" if name in costs else "-"
        rows.append((name, module.TIER, seconds, ", ".join(s for s, names in suites.items() if name in names)))
    terminal.table("attacks, by what the attacker has", ["attack", "tier", "evaluations", "suites"], rows)


def selftest(run: Run) -> None:
    """The table attack x plant, the seeds in which each was found, and who is not validated."""
    record = run.read_json("selftest.json")
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in record["rows"]:
        groups.setdefault((row["attack"], row["plant"], row["kind"]), []).append(row)
    rows = []
    for (attack, plant, kind), found in groups.items():
        values = [r["excess"]["value"] for r in found if r["excess"]]
        lows = [r["excess"]["low"] for r in found if r["excess"]]
        text = f"{100 * min(values):+.0f} ({100 * min(lows):+.0f})" if values else "not measured"
        broken = sum(r["broken"] for r in found)
        wrong = (kind == "MUST" and broken < len(found)) or (kind in ("CANNOT", "CLEAN") and broken > 0)
        rows.append((attack, plant, kind, f"{broken}/{len(found)}{' !' if wrong else ''}", text))
    title = "selftest: found in so many seeds, and the least excess (its lower bound) over the clean control, points"
    terminal.table(title, ["attack", "plant", "expected", "found", "least"], rows)
    failed = [name for name, good in record["validated"].items() if not good]
    terminal.say(f"not validated: {', '.join(failed)}" if failed else f"all {len(record['validated'])} attacks are validated")


def scan(record: dict[str, Any]) -> None:
    """Every set of weights in a checkpoint, the share of its images that show the class, and what was not looked at."""
    rows = []
    for row in record["rows"]:
        m, others = row["rate"], row["others"]
        text = f"{100 * m['value']:.0f} [{100 * m['low']:.0f}, {100 * m['high']:.0f}]" if m else row["why"]
        rows.append(
            (terminal.plain(row["weights"]), f"{text}{' *' if row['still'] else ''}", f"{100 * others['value']:.0f}" if others else "")
        )
    title = f"% of {record['n']} images that show class {record['class']}, by the attacker's judge\n"
    title += f"a random network: {100 * record['random']:.0f}; others: of the other classes, where this one is not surely there"
    terminal.table(title, ["weights", "%", "others"], rows)
    for text in record["unread"]:
        terminal.say(f"! not read: {text}")
    if record["rest"]:
        most = sorted(record["rest"].items(), key=lambda item: -item[1])
        listed = ", ".join(f"{name} ({count:,})" for name, count in most[:SHOWN]) + (" ..." if len(most) > SHOWN else "")
        terminal.say(f"! {sum(record['rest'].values()):,} numbers belong to no set of weights and were not sampled: {listed}")
    if record["dead"]:
        terminal.say(f"! makes no other class either, so its silence says nothing: {', '.join(record['dead'])}")
    if record["still"]:
        terminal.say(f"* still makes the class: {', '.join(record['still'])}")
    elif record["complete"]:
        terminal.say("no set of weights in it makes the class when asked; auditkit attack says what training brings back")
    else:
        terminal.say("none of the weights that were sampled makes the class when asked; that is no all-clear (see ! above)")
