"""What the reporting judges see in the images of an attack: two judges of two families, chosen by their cards before any image is
looked at."""

from pathlib import Path
from typing import Any

from auditkit import data, rundir
from auditkit.errors import UserError
from auditkit.stages import judging
from auditkit.stages.attack import CURVE, reported
from auditkit.stages.cell import Console
from auditkit.stages.sample import IMAGES, images
from auditkit_attacks.target import Point
from auditkit_evaluators import cards
from auditkit_evaluators.excess import Points
from auditkit_evaluators.votes import Judge

KNOWS = 0.9  # of real held-out images of the class
MEASURED = "measured"  # stands for a judge where an attack counts without one


def reporters(dataset: data.Dataset, asked: int, weights: str | None, seed: int, console: Console) -> tuple[list[Judge], dict[str, Any]]:
    """Two judges, and what their cards say of this class and of noise.

    Of those that know the class, the one that calls independent noise by it least often, and the next such one of another family.
    """
    panel = judging.build(("ensemble",), dataset, clip_model=None, weights=Path(weights) if weights else None, seed=seed, console=console)

    def on_noise(judge: Judge) -> float:
        columns = panel.cards[judge.name].panel
        return max(columns[kind].closed[asked] / columns[kind].n for kind in cards.INDEPENDENT)

    def on_real(judge: Judge) -> float:
        return panel.cards[judge.name].classes[asked].hit.value or 0.0

    able = sorted((j for j in panel.judges if on_real(j) >= KNOWS), key=on_noise)
    able = able or sorted(panel.judges, key=on_real, reverse=True)
    second = next((j for j in able[1:] if j.family != able[0].family), None)
    if second is None:
        raise UserError(f"attacks are judged by two families, and only {able[0].family} is there for {dataset.name}: give --judge-weights")
    chosen = [able[0], second]
    about = {j.name: {"family": j.family, "real": on_real(j), "noise": on_noise(j)} for j in chosen}
    return chosen, about


def points(run: rundir.Run, judges: list[Judge], asked: int) -> Points:
    """The reported points of one cell by each judge; of an attack that measures, what it measured."""
    curve = [Point.model_validate(p) for p in run.read_json(CURVE)["curve"]]
    if IMAGES not in run.result.files:
        return {f"{p.setting}/{p.step}": {MEASURED: (p.hits, p.n)} for p in reported(curve)}
    made = images(run)
    counted = {f"{p.setting}/{p.step}" for p in reported(curve)}
    found: dict[str, dict[str, tuple[int, int]]] = {key: {} for key in made if key in counted}
    for judge in judges:
        for key in found:
            found[key][judge.name] = (int((judge.judge(made[key]).said == asked).sum()), len(made[key]))
    return found
