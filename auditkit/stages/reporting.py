"""What the reporting judges see in the images of an attack: two judges of two families, chosen by their cards before any image is
looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from auditkit_evaluators.excess import Excess, Points, headline
from auditkit_evaluators.votes import Judge

KNOWS = 0.8  # of real held-out images of the class: of some 30, so that .9 is told from .8 by chance
ATTACKERS = "kernel"  # the family of the attacker's own judge (aim.py)
MEASURED = "measured"  # stands for a judge where an attack counts without one


def reporters(dataset: data.Dataset, asked: int, weights: str | None, seed: int, console: Console) -> tuple[judging.Panel, dict[str, Any]]:
    """A panel of two judges, and what their cards say of this class and of noise; none of the family by which the attacker chooses.

    Of the ensemble and the bundled CLIP model, where there is one: of those that know the class, the one that calls independent noise by
    it least often, and the next such one of another family and, where there is one, another feature space: families that read the
    same pixels are fooled by the same textures.
    """
    from auditkit_evaluators.clip import BUNDLED  # brings open_clip, a second that attacks need not wait for

    names = ("ensemble", "clip") if dataset.name in BUNDLED else ("ensemble",)
    panel = judging.build(names, dataset, clip_model=None, weights=Path(weights) if weights else None, seed=seed, console=console)

    def on_noise(judge: Judge) -> float:
        columns = panel.cards[judge.name].panel
        return max(columns[kind].closed[asked] / columns[kind].n for kind in cards.INDEPENDENT)

    def on_real(judge: Judge) -> float:
        return panel.cards[judge.name].classes[asked].hit.value or 0.0

    heard = [j for j in panel.judges if j.family != ATTACKERS]
    able = sorted((j for j in heard if on_real(j) >= KNOWS), key=on_noise)
    rest = sorted((j for j in heard if j not in able), key=on_real, reverse=True)  # where too few know the class, the best of the rest
    first, others = (able + rest)[0], [[j for j in group if j.family != (able + rest)[0].family] for group in (able, rest)]
    second = next((j for group in others for j in (*(j for j in group if j.space != first.space), *group)), None)
    if second is None:
        raise UserError(f"attacks are judged by two families, and only {first.family} is there for {dataset.name}: give --judge-weights")
    chosen = [first, second]
    about = {}
    for j in chosen:
        card = panel.cards[j.name]
        n = [card.classes[asked].hit.n, min(card.panel[kind].n for kind in cards.INDEPENDENT)]
        about[j.name] = {"family": j.family, "sha": j.sha, "card": cards.key(j, dataset), "real": on_real(j), "noise": on_noise(j), "n": n}
    return replace(panel, judges=tuple(chosen)), about


@dataclass(frozen=True)
class Seen:
    """The reported points of one cell: by the closed-set answers, and with "no class" allowed (empty where nobody judged)."""

    said: Points
    clean: Points


def points(run: rundir.Run, judges: Sequence[Judge], asked: int) -> Seen:
    """The reported points of one cell by each judge; of an attack that measures, what it measured."""
    curve = [Point.model_validate(p) for p in run.read_json(CURVE)["curve"]]
    if IMAGES not in run.result.files:
        return Seen({f"{p.setting}/{p.step}": {MEASURED: (p.hits, p.n)} for p in reported(curve)}, {})
    made = images(run)
    counted = {f"{p.setting}/{p.step}" for p in reported(curve)}
    said: dict[str, dict[str, tuple[int, int]]] = {key: {} for key in made if key in counted}
    clean: dict[str, dict[str, tuple[int, int]]] = {key: {} for key in said}
    for judge in judges:
        for key in said:
            votes = judge.judge(made[key])
            said[key][judge.name] = (int((votes.said == asked).sum()), len(made[key]))
            clean[key][judge.name] = (int((votes.answered == asked).sum()), len(made[key]))
    return Seen(said, clean)


def over(subject: Seen, floors: Mapping[str, Seen]) -> Excess | None:
    """The excess of one attack over its floors, with one clean witness among the judges."""
    clean = (subject.clean, {f: seen.clean for f, seen in floors.items()}) if subject.clean else None
    return headline(subject.said, {f: seen.said for f, seen in floors.items()}, clean=clean)
