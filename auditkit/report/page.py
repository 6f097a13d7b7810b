"""The page itself: sealed records in, HTML out. Pictures travel inside it as data, so one file is the whole report."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

TEMPLATE = "page.html.j2"
ROLES = ("subject", "original", "sham", "retrained", "random", "gate")  # the columns, in this order
MEANING = {
    "PRESENT": "the images show the class",
    "OTHER CLASS": "the images show another class",
    "NO CLASS": "the images show no class",
    "UNDECIDED": "the evidence is not enough for any other word",
    "GATED": "the class comes back without any training",
    "SUPPRESSED": "the class comes back by training on the other classes alone",
    "DORMANT": "the class comes back by training on it, faster than into a model that never saw it",
    "REMOVED": "every attack stays within 5 points of models that never saw the class",
}
TONE = {"PRESENT": "bad", "GATED": "bad", "SUPPRESSED": "bad", "DORMANT": "bad", "NO CLASS": "good", "REMOVED": "good"}


@dataclass(frozen=True)
class Sheet:
    """Rows of small images under one heading: (what it is, how often it shows the class, PNG bytes at native size). `aside` is folded."""

    title: str
    rows: Sequence[tuple[str, str, bytes]]
    aside: bool = False


def render(
    *,
    title: str,
    evaluation: Mapping[str, Any] | None,
    suite: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
    sheets: Sequence[Sheet],
    plots: Sequence[tuple[str, bytes]],
    recipe: Sequence[tuple[str, str]],
    runs: Sequence[tuple[str, str]],
    redacted: bool,
) -> str:
    """One HTML document. `evaluation` and `suite` are the records of these stages, `plots` SVG bytes with what they show in words,
    `runs` names with digests."""
    loader = jinja2.PackageLoader("auditkit", "report")
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"share": share, "points": points, "least": least, "seers": seers, "uri": uri}
    return page.get_template(TEMPLATE).render(
        title=title,
        evaluation=evaluation,
        suite=suite,
        seconds=seconds,
        sheets=sheets,
        plots=plots,
        recipe=recipe,
        runs=runs,
        redacted=redacted,
        roles=ROLES,
        meaning=MEANING,
        tone=TONE,
        flags=by_attack(suite["flags"]) if suite else {},
    )


def by_attack(flags: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The flags beside the attack that they touch; "" is the whole suite."""
    found: dict[str, list[str]] = {}
    for flag in flags:
        found.setdefault(flag["attack"], []).append(flag["text"])
    return found


def share(measure: Mapping[str, Any]) -> str:
    """ "64 % [57, 71], n = 100", or why there is no number."""
    if measure["value"] is None:
        return f"not measured: {measure['note']}"
    return f"{100 * measure['value']:.0f} % [{100 * measure['low']:.0f}, {100 * measure['high']:.0f}], n = {measure['n']}"


def points(excess: Mapping[str, Any]) -> str:
    """ "+27 [+6, +46], n = 100", in points."""
    return f"{100 * excess['value']:+.0f} [{100 * excess['low']:+.0f}, {100 * excess['high']:+.0f}], n = {excess['n']}"


def least(by_judge: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The rate by the more sceptical judge."""
    return min(by_judge.values(), key=lambda m: m["value"])


def seers(entry: Mapping[str, Any]) -> int:
    """How many judges see the class in a set of images."""
    return sum(str(entry["verdict"]["asked"]) in evidence["seen"] for evidence in entry["evidence"])


def uri(picture: bytes) -> str:
    """A picture as a data: address."""
    kind = "image/png" if picture.startswith(b"\x89PNG") else "image/svg+xml"
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"
