"""A judge's card as tables: real images, noise, the ladder."""

from typing import Any

from auditkit import terminal
from auditkit.results import Measure


def card(found: dict[str, Any]) -> None:
    """What one judge was measured to do, for every class."""
    hit, refused, ece = (Measure.model_validate(found[key]) for key in ("hit", "refused", "ece"))
    terminal.err.print(f"\n[bold]{terminal.plain(found['judge'])}[/] ({found['family']}), fitted on {terminal.plain(found['fitted_on'])}")
    terminal.say(f"real held-out images: {hit.text(1)} right, n = {hit.n}; called no class: {refused.text(1)}")
    terminal.say(
        f"temperature {found['temperature']:.3g}, ECE {ece.text(1)}; sink on N(0, 1): class {found['sink']}, {_text(found['sink_share'])}"
    )
    rungs = list(found["classes"][0]["ladder"])
    rows = []
    for k, c in enumerate(found["classes"]):
        lr, lod = c["lr_open"], c["lod"]["value"]
        worth = f"{lr['value']:.3g}" if lr["value"] is not None else "> " + lr["note"].rpartition(" ")[2]  # a bound where it is infinite
        ladder = [f"{100 * c['ladder'][a]['value']:.0f}" for a in rungs]
        seen = "none" if lod is None else f"{lod:g}"
        rows.append(
            (str(k), terminal.cell(Measure.model_validate(c["hit"])), f"{c['tv']:.2f}", f"{c['tv_open']:.2f}", worth, seen, *ladder)
        )
    caption = "TV: total variation from the closest independent noise, and the same with the answer no class\n"
    caption += "LR+: hit rate over noise rate, with it; LoD: the smallest a from which it sees the class"
    columns = ["class", "hit %", "TV", "open", "LR+", "LoD", *[f"{float(a):g}".lstrip("0") or "0" for a in rungs]]
    terminal.table("classes, and % called the class at a of the ladder sqrt(a) real + sqrt(1-a) noise", columns, rows, caption=caption)
    rows = [
        (kind, str(c["n"]), *[f"{100 * v / c['n']:.0f}" for v in c["closed"]], f"{100 * c['open'][-1] / c['n']:.0f}")
        for kind, c in found["panel"].items()
    ]
    classes = [str(k) for k in range(len(found["classes"]))]
    terminal.table("% of noise called each class, and no class", ["noise", "n", *classes, "none"], rows)


def _text(measure: dict[str, Any]) -> str:
    return Measure.model_validate(measure).text()
