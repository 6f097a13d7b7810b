"""What several cells of one attack say together: pooled by trained model, and the steps to recover over the training seeds."""

from collections.abc import Mapping
from typing import Any

from auditkit.stages.attack import FLOORS
from auditkit.stages.reporting import Seen
from auditkit_attacks import module_of
from auditkit_attacks.target import CHOSEN
from auditkit_evaluators import recovery, stats
from auditkit_evaluators.excess import Count, Points, averaged, pooled

Key = tuple[int, str, str]  # training seed, attack, role


def recovery_of(attack: str, seen: dict[Key, Seen]) -> dict[str, Any]:
    """Of an attack with a curve over steps: subject against each floor over the training seeds, censored (docs/attacks.md)."""
    lines: dict[str, list[list[tuple[int, float]]]] = {}
    if not trains(attack):
        return {}
    for (_, name, role), cell_seen in seen.items():
        found_points = cell_seen.said
        settings = {key.rpartition("/")[0] for key in found_points} if name == attack else set()
        if settings:  # of several learning rates the fastest counts
            lines.setdefault(role, []).append(max((_line(found_points, s) for s in settings), key=lambda line: sum(r for _, r in line)))
    untouched = [cell_seen.said.get(CHOSEN, {}) for key, cell_seen in seen.items() if key[1:] == ("repeat", "original")]
    rates = [min(k / n for k, n in by.values()) for by in untouched if by]
    if "subject" not in lines or not rates or sum(rates) <= 0:
        return {}
    ceiling = sum(rates) / len(rates)
    mine = [recovery.steps_to(line, ceiling) for line in lines["subject"]]
    out: dict[str, Any] = {"steps": [[r.step, r.censored] for r in mine]}
    for floor in (f for f in FLOORS if f in lines):
        theirs = [recovery.steps_to(line, ceiling) for line in lines[floor]]
        measures = {"ain": recovery.ain(mine, theirs), "logrank": recovery.compare(mine, theirs)}
        out[floor] = {"steps": [[r.step, r.censored] for r in theirs], **{k: m.model_dump() for k, m in measures.items()}}
        out[floor]["area"] = [sum(recovery.area(line, ceiling) for line in lines[who]) / len(lines[who]) for who in ("subject", floor)]
    return out


def curves_of(roles: Mapping[str, Seen], at: str) -> dict[str, list[dict[str, Any]]]:
    """By role the pooled rate by the more sceptical judge after each step, along the setting of the point `at`."""
    setting, found = at.rpartition("/")[0], {}
    for role, seen in roles.items():
        steps = sorted(int(key.rpartition("/")[2]) for key in seen.said if key.rpartition("/")[0] == setting)
        rates = {s: [stats.rate(f"{role}/{s}", *c, safer="lower") for c in seen.said[f"{setting}/{s}"].values()] for s in steps}
        found[role] = [{"step": s, "rate": min(by, key=lambda m: m.value or 0).model_dump()} for s, by in rates.items()]
    return found


def _line(points_: Points, setting: str) -> list[tuple[int, float]]:
    """(step, rate by the more sceptical judge) of one setting."""
    found_here = [
        (int(key.rpartition("/")[2]), min(k / n for k, n in by.values())) for key, by in points_.items() if key.startswith(f"{setting}/")
    ]
    return sorted(found_here)


def trains(attack: str) -> bool:
    """Whether an attack's points are training steps."""
    return hasattr(module_of(attack).Budget, "points")


def together(found: list[Seen], models: list[str], *, same: bool) -> Seen:
    """The cells that worked, as one."""
    good = [k for k, seen in enumerate(found) if seen.said]
    kept, named = [found[k] for k in good], [models[k] for k in good]
    return Seen(_pool([seen.said for seen in kept], named, same=same), _pool([seen.clean for seen in kept], named, same=same))


def _pool(found: list[Points], models: list[str], *, same: bool) -> Points:
    """The points of several cells as one, each as many images as it is worth; `same`: they measured the same images."""
    shared = [key for key in found[0] if all(key in points for points in found)] if found else []

    def one(counts: list[Count]) -> Count:
        return averaged(counts) if same else pooled(counts, models)

    return {key: {judge: one([points[key][judge] for points in found]) for judge in found[0][key]} for key in shared}
