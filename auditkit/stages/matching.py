"""Methods at equal retained quality: each as strong as the same loss of the other classes allows.

A method that forgets more because it destroys more has proved nothing. Each one's weight between forgetting and retaining is chosen on
training seeds, images and a judge of their own, apart from all that is reported.
"""

import importlib
from dataclasses import replace
from typing import Any

import torch

from auditkit import data
from auditkit.stages import source
from auditkit.stages.aim import attackers_judge
from auditkit.stages.cell import Console, side_by_side
from auditkit.stages.entries import Entry
from auditkit.stages.sample import images, sample
from auditkit.stages.train import unlearn
from auditkit.unlearn import METHODS

KEEPS = {"safemax": "alpha", "salun": "alpha", "selective-amnesia": "gamma", "esd": "alpha", "dimum": "alpha", "random-label": "alpha"}
FORGETS = {"gradient-ascent": "beta"}
FACTORS = (0.125, 0.5, 1.0, 2.0, 8.0)
SEED = 2**31 + 1000  # of the models and images that choose
ROUNDING = 1e-6  # shares are float32
ASKED, KEPT = 60, 20  # images of the forgotten class, and of each other one


def matched(
    entries: list[Entry],
    classes: tuple[int, ...],
    points: float,
    start: source.Source,
    dataset: data.Dataset,
    original: str | None,
    console: Console,
) -> tuple[list[Entry], dict[str, Any]]:
    """The entries with their weight changed, and what was found: the strongest setting that costs the rest at most `points` (a share) on
    the mean of the classes; where none does, the one that costs least. Entries without such a weight stay as they are."""
    tried = {(e.name, f): _moved(e, f) for e in entries if e.method in KEEPS | FORGETS for f in FACTORS}
    common: dict[str, Any] = {"seed": SEED, "point": False, "data_name": dataset.spec, "original": original}
    calls = {(*key, k): {"method": e.method, "classes": (k,), "params": e.params, **common} for key, e in tried.items() for k in classes}
    side_by_side([(unlearn, call) for call in calls.values()], f"matching: {len(calls)} models", console)
    who = {key: source.of_run(unlearn(**call), "subject") for key, call in calls.items()}
    draws = {key: _draw(model, key[2], dataset) for key, model in who.items()} | {("", 0.0, k): _draw(start, k, dataset) for k in classes}
    side_by_side([(sample, draw) for draw in draws.values()], f"matching: {len(draws)} sets of images", console)
    right = {key: _right(draw, key[2], dataset) for key, draw in draws.items()}
    found: dict[str, Any] = {"points": points, "seed": SEED, "entries": {}}
    chosen = []
    for e in entries:
        if e.method not in KEEPS | FORGETS:
            chosen.append(e)
            continue
        lost = {f: sum(right["", 0.0, k][1] - right[e.name, f, k][1] for k in classes) / len(classes) for f in FACTORS}
        shown = {f: sum(right[e.name, f, k][0] for k in classes) / len(classes) for f in FACTORS}
        fit = [f for f in FACTORS if lost[f] <= points + ROUNDING]
        best = min(fit, key=lambda f: (shown[f], _strength(e, f))) if fit else min(FACTORS, key=lambda f: lost[f])
        knob = (KEEPS | FORGETS)[e.method]
        found["entries"][e.name] = {
            "knob": knob,
            "value": tried[e.name, best].params[knob],
            "within": bool(fit),
            "tried": [{"value": tried[e.name, f].params[knob], "lost": lost[f], "shows": shown[f]} for f in FACTORS],
        }
        chosen.append(replace(tried[e.name, best], name=e.name))
    return chosen, found


def _moved(entry: Entry, factor: float) -> Entry:
    """The entry with its weight multiplied."""
    knob = (KEEPS | FORGETS)[entry.method]
    default = importlib.import_module(METHODS[entry.method]).Params.__dataclass_fields__[knob].default
    return replace(entry, params={**entry.params, knob: float(f"{float(entry.params.get(knob, default)) * factor:.6g}")})


def _strength(entry: Entry, factor: float) -> float:
    """Less for a setting that forgets more."""
    return factor if entry.method in KEEPS else -factor


def _draw(who: source.Source, k: int, dataset: data.Dataset) -> dict[str, Any]:
    counts = {k: ASKED} | {int(c): KEPT for c in dataset.others((k,))}
    return {"model": who, "counts": counts, "data_name": dataset.spec, "seed": SEED}


def _right(draw: dict[str, Any], k: int, dataset: data.Dataset) -> tuple[float, float]:
    """The share of the forgotten class's images that show it, and of the others' that show theirs, by the selection judge."""
    judge, made = attackers_judge(dataset.spec), images(sample(**draw))
    hits = {int(name.split("/")[1]): (judge(x) == int(name.split("/")[1])) for name, x in made.items()}
    return float(hits[k].float().mean()), float(torch.cat([h for c, h in hits.items() if c != k]).float().mean())
