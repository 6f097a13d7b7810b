"""The pictures: a grid of images, one labelled row each; recovery curves with their floors; the excess of each attack. PNG or SVG bytes,
reproducible."""

import functools
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from auditkit.results import Measure

# Colours that stay apart for colour-blind readers (Okabe and Ito, https://jfly.uni-koeln.de/color/).
COLOURS = {"subject": "#D55E00", "original": "#000000", "retrained": "#0072B2", "random": "#999999", "gate": "#CC79A7"}
Bar = tuple[str, float | None, float | None, float | None, bool]
OTHERS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99", "#999933", "#332288")  # of methods
FLOOR, MANY = " (floor)", 5  # more lines than that in one panel have their names beside it
DASHES = {"subject": "-", "original": ":", "retrained": "--", "random": "--", "gate": ":"}


def _plain(draw: Callable[..., bytes]) -> Callable[..., bytes]:
    """A picture in which foreign names are words, never formulas: "$_$" would be an error."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> bytes:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*arguments, **options)

    return drawn


def _saved(figure: Any, kind: str = "png") -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.hashsalt": "auditkit", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}):  # text as text
        figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    if kind == "png":
        return buffer.getvalue()
    short = re.sub(rb"<[^>]*>", lambda tag: re.sub(rb"(\.\d)\d+", rb"\1", tag[0]), buffer.getvalue())  # a tenth of a point is enough
    return re.sub(rb"\s*\n\s*", b"\n", short)


def strip(images: Tensor) -> bytes:
    """A PNG of uint8 images (N, C, H, W) side by side at their own size, a white pixel between them."""
    from PIL import Image

    n, _, height, width = images.shape
    sheet = np.full((height, n * (width + 1) - 1, 3), 255, np.uint8)
    for k, image in enumerate(images):
        sheet[:, k * (width + 1) : k * (width + 1) + width] = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(sheet if images.shape[1] == 3 else sheet[..., 0]).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


@_plain
def grid(rows: list[tuple[str, Tensor]], title: str = "") -> bytes:
    """A PNG with one row per (name, uint8 images (N, C, H, W)); missing images stay blank."""
    from matplotlib.figure import Figure

    columns = max(len(images) for _, images in rows)
    height, width = rows[0][1].shape[-2:]
    scale, gap = max(1, round(40 / height)), 3
    cell_h, cell_w = height * scale + gap, width * scale + gap
    sheet = np.full((len(rows) * cell_h, columns * cell_w, 3), 255, np.uint8)
    for r, (_, images) in enumerate(rows):
        for c, image in enumerate(images):
            pixels = image.permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
            sheet[r * cell_h : r * cell_h + height * scale, c * cell_w : c * cell_w + width * scale] = pixels
    dpi, left, top = 110, 2.6, 0.45 if title else 0.08
    size = (left + sheet.shape[1] / dpi + 0.1, top + sheet.shape[0] / dpi + 0.08)
    figure = Figure(figsize=size, dpi=dpi)
    axes = figure.add_axes((left / size[0], 0.08 / size[1], sheet.shape[1] / dpi / size[0], sheet.shape[0] / dpi / size[1]))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([(r + 0.5) * cell_h for r in range(len(rows))], [name for name, _ in rows], fontsize=9)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        figure.text(0.1 / size[0], 1 - 0.28 / size[1], title, fontsize=10, weight="bold")
    return _saved(figure)


@_plain
def curves(panels: list[tuple[str, dict[str, list[tuple[int, Measure]]]]], title: str, ylabel: str, kind: str = "png") -> bytes:
    """A picture (png or svg) with one panel per (name, curves by role); a curve is (step, Measure) in order, its 95 % interval shaded."""
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    many = len(panels) == 1 and len(panels[0][1]) > MANY
    figure = Figure(figsize=(8.2, 4.4) if many else (4.6 * columns + 0.4, 3.2 * rows + 0.6), dpi=110)
    for index, (name, lines) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        marked = any(name.endswith(FLOOR) for name in lines)  # methods beside floors: only what is marked is one
        roles = {n: n.removesuffix(FLOOR) if n.endswith(FLOOR) or not marked else "" for n in lines}
        unnamed = [n for n in lines if roles[n] not in COLOURS]
        for label, line in lines.items():
            points = [(step, m) for step, m in line if m.value is not None]
            x, role = [step for step, _ in points], roles[label]
            floor = FLOOR if role in ("random", "retrained") else " (ceiling)" if role == "original" else ""
            other = OTHERS[unnamed.index(label) % len(OTHERS)] if label in unnamed else ""
            style: dict[str, Any] = {"color": COLOURS.get(role, other), "linestyle": DASHES.get(role, "-")}
            axes.plot(
                x,
                [100 * (m.value or 0) for _, m in points],
                marker="o",
                ms=3,
                lw=2.4 if role == "subject" else 1.5,
                label=label.removesuffix(FLOOR) + floor,
                **style,
            )
            low, high = [100 * (m.low or 0) for _, m in points], [100 * (m.high or 0) for _, m in points]
            axes.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)
        axes.set_xscale("symlog", linthresh=1)
        ticks = sorted({step for line in lines.values() for step, _ in line})
        axes.set_xticks(ticks, [str(t) for t in ticks], fontsize=8)
        axes.minorticks_off()
        axes.set_ylim(-3, 103)
        axes.set_title(name, fontsize=10)
        axes.set_xlim(-0.1 if 0 in ticks else 0.8 * min(ticks), 1.25 * max(ticks))
        if index >= len(panels) - columns:
            axes.set_xlabel("fine-tuning steps", fontsize=9)
        axes.grid(alpha=0.25)
        if index % columns == 0:
            axes.set_ylabel(ylabel, fontsize=9)
        if index == 0:
            axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5) if many else (0.0, 0.55))
    figure.suptitle(title, fontsize=11, weight="bold")
    figure.tight_layout()
    return _saved(figure, kind)


@_plain
def tradeoff(points: list[tuple[str, Measure, Measure]], title: str, across: str, kind: str = "png") -> bytes:
    """A picture (png or svg) with one point for each (name, what was lost, UA), both with their intervals; one not measured is left out.

    UA is a share; what was lost is a share or in a unit of its own, and `across` says what it is.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.4), dpi=110)
    axes = figure.add_subplot()
    for k, (name, lost, ua) in enumerate(p for p in points if p[1].value is not None and p[2].value is not None):
        x, y = _ends(lost), _ends(ua)
        axes.errorbar(
            x[0],
            y[0],
            xerr=[[x[0] - x[1]], [x[2] - x[0]]],
            yerr=[[y[0] - y[1]], [y[2] - y[0]]],
            fmt="os^Dv"[k // len(OTHERS) % 5],
            ms=6,
            color=OTHERS[k % len(OTHERS)],
            capsize=2,
            lw=1,
            label=name,
        )
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel("UA by the judge that gives least, %", fontsize=9)
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.set_title(title, fontsize=10, weight="bold")
    figure.tight_layout()
    return _saved(figure, kind)


def _ends(measure: Measure) -> tuple[float, float, float]:
    """Value, low and high, in per cent for a share; no interval where none was measured."""
    value = measure.value or 0.0
    low, high = (value if end is None else end for end in (measure.low, measure.high))
    scale = 100 if measure.unit == "share" else 1
    return scale * value, scale * min(low, value), scale * max(high, value)


@_plain
def bars(rows: list[Bar], title: str, margin: float, kind: str = "png") -> bytes:
    """A picture (png or svg) of one dot with its interval for each attack, in shares; None was not measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.28 * len(rows) + 1.3), dpi=110)
    axes = figure.add_subplot()
    axes.axvspan(-100 * margin, 100 * margin, color="#999999", alpha=0.15, lw=0)
    axes.axvline(0, color="#555555", lw=0.8)
    for k, (_, value, low, high, is_broken) in enumerate(rows):
        if value is None or low is None or high is None:
            axes.text(2, k, "not measured", fontsize=7, va="center", color="#777777")
            continue
        colour = "#D55E00" if is_broken else "#0072B2" if high < margin else "#777777"
        axes.errorbar(
            100 * value, k, xerr=[[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]], fmt="o", ms=4, color=colour, capsize=2
        )
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-102, 102)
    axes.set_xlabel("share of images that show the class, subject minus its highest floor, points", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    figure.suptitle(title, fontsize=10, weight="bold")
    figure.tight_layout()
    return _saved(figure, kind)
