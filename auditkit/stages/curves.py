"""Recovery curves as the reporting judges see them: one judge chosen from its card, the subject's excess over each floor."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from auditkit.results import Measure
from auditkit.stages.attack import FLOORS
from auditkit_evaluators import cards, stats
from auditkit_evaluators.votes import Judge


def _last(found: dict[str, Tensor]) -> dict[str, int]:
    """The last step of each setting among an attack's images."""
    steps: dict[str, int] = {}
    for key in found:
        setting, step = key.split("/")
        steps[setting] = max(steps.get(setting, 0), int(step))
    return steps


def speaker(panel: Sequence[Judge], found: dict[str, cards.Card], asked: int) -> Judge:
    """The one judge whose curves are printed: of those that know the class (90 % of real heldout images, else the best),
    the one that calls independent noise by that class least often. Chosen from cards alone, before any image is looked at."""

    def on_noise(judge: Judge) -> float:
        columns = found[judge.name].panel
        return max(columns[kind].closed[asked] / columns[kind].n for kind in cards.INDEPENDENT)

    def on_real(judge: Judge) -> float:
        return found[judge.name].classes[asked].hit.value or 0.0

    able = [j for j in panel if on_real(j) >= 0.9] or [max(panel, key=on_real)]
    return min(able, key=on_noise)


def by_judge(judge: Judge, indices: dict[str, Any], attacked: dict[tuple[str, str], dict[str, Tensor]], asked: int) -> list[dict[str, Any]]:
    """Every attack's curves by one judge, one entry per setting, with the subject's excess over each floor.

    Intervals of an excess hold together over all points and settings of the attack (Bonferroni)."""
    out = []
    for name in indices:
        roles = {role: found for (attack, role), found in attacked.items() if attack == name}
        for setting in _last(roles["subject"]):
            steps = sorted(int(key.split("/")[1]) for key in roles["subject"] if key.startswith(setting + "/"))
            counts = {role: hits(judge, {s: found[f"{setting}/{s}"] for s in steps}, asked) for role, found in roles.items()}
            lines = {
                role: [{"step": s, "rate": stats.rate(f"{role}/{s}", *by_step[s], safer="lower").model_dump()} for s in steps]
                for role, by_step in counts.items()
            }
            out.append(
                {
                    "attack": name,
                    "setting": setting,
                    "judge": judge.name,
                    "lines": lines,
                    "excess": _excess(name, setting, counts, steps, len(_last(roles["subject"]))),
                }
            )
    return out


def hits(judge: Judge, points: dict[int, Tensor], asked: int) -> dict[int, tuple[int, int]]:
    """Of the images of each point: how many are judged the class, of how many."""
    votes = judge.each([*points.values()])
    return {step: (int((v.said == asked).sum()), len(points[step])) for step, v in zip(points, votes, strict=True)}


def _excess(name: str, setting: str, hits: dict[str, dict[int, tuple[int, int]]], steps: list[int], settings: int) -> dict[str, Any]:
    """Subject minus floor after each number of steps, intervals simultaneous over the curve, and the worst step of each.

    "highest" is the excess over whichever floor is higher after that many steps: the headline.
    """
    trained = [s for s in steps if s > 0]
    floors = [f for f in FLOORS if f in hits]

    def over(floor: str, step: int) -> dict[str, Any]:
        label = f"{name} {setting}: excess over {floor} after {step} steps"
        measure = stats.difference(label, *hits["subject"][step], *hits[floor][step], comparisons=len(trained) * settings)
        return {"step": step, "floor": floor, "excess": measure.model_dump()}

    def worst(points: list[dict[str, Any]]) -> dict[str, Any]:
        by_value = sorted(points, key=lambda p: p["excess"]["value"])
        return {"points": points, "worst": by_value[-1], "least": by_value[0]}

    found = {floor: worst([over(floor, s) for s in trained]) for floor in floors}
    if floors:
        found["highest"] = worst([over(max(floors, key=lambda f: hits[f][s][0]), s) for s in trained])
    return found


def headlines(curves: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each attack its worst setting and step: where the subject exceeds the highest floor most, or, with no floor run,
    the last step of the fastest learning rate, its excess "not measured"."""
    found: dict[str, dict[str, Any]] = {}
    for curve in curves:
        attack, setting = curve["attack"], curve["setting"]
        if "highest" in curve["excess"]:
            found_here = curve["excess"]["highest"]
            entry = {"setting": setting, **found_here["worst"], "least": found_here["least"]}
            if attack not in found or entry["excess"]["value"] > found[attack]["excess"]["value"]:
                found[attack] = entry
        else:
            missing = Measure(name=f"{attack} {setting}: excess", value=None, n=0, safer="lower", note="no floor was run")
            last = curve["lines"]["subject"][-1]["step"]
            found[attack] = {"setting": setting, "step": last, "floor": None, "excess": missing.model_dump()}
    return found


def all_points(curves: list[dict[str, Any]]) -> list[Measure]:
    """Every point's excess over its highest floor, for the gate: the largest value need not have the largest lower bound."""
    found = []
    for curve in curves:
        if "highest" in curve["excess"]:
            found += [Measure.model_validate(p["excess"]) for p in curve["excess"]["highest"]["points"]]
        else:
            name = f"{curve['attack']} {curve['setting']}: excess"
            found.append(Measure(name=name, value=None, n=0, safer="lower", note="no floor was run"))
    return found
