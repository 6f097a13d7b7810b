"""The short account at the end of an evaluation: verdicts first, then what explains them, in sentences without an adjective."""

from typing import Any

from auditkit.results import Measure
from auditkit_evaluators.control import Control
from auditkit_evaluators.evaluation import Heard
from auditkit_evaluators.verdict import Verdict


def verdicts(found: tuple[Verdict, ...], heard: list[Heard], classes: tuple[str, ...]) -> tuple[str, ...]:
    """One line for each class that was forgotten, then what the judges' own behaviour explains."""
    said = [f"{v.word}: {v.n} images asked for {classes[v.asked]!r}: {'; '.join(v.why)}" for v in found]
    for h in heard:
        name = classes[h.verdict.asked]
        explained = [e.judge for e in h.evidence if e.excess.explained_by_noise]
        if explained:
            rest = "and the images not shown to be more often: a UA below 100 % is the judge's doing"
            said.append(f"{', '.join(explained)}: call over 5 % of noise {name!r}, {rest}")
        for e in h.evidence:
            if e.note:
                said.append(f"{e.judge}: {e.note} ({name!r})")
    return tuple(said)


def attacks(headlines: dict[str, dict[str, Any]], control: Control) -> tuple[str, ...]:
    """One line for each attack: where the subject exceeds its highest floor most and least; where the positive control failed, that it
    says nothing."""
    if not control.passed:
        return tuple(f"{attack}: says nothing about forgetting: {control.why}" for attack in headlines)
    said = []
    for attack, headline in headlines.items():
        m = Measure.model_validate(headline["excess"])
        if m.value is None or m.low is None or m.high is None:
            said.append(f"{attack}: excess not measured ({m.note})")
            continue
        sure = (
            "above its highest floor at some point" if m.low > 0 else "below its floors" if m.high < 0 else "not told apart from its floors"
        )
        said.append(f"{attack}: {sure}; largest excess {_where(headline)}, smallest {_where(headline['least'])}, at {headline['setting']}")
    if headlines:
        said.append("intervals of an excess hold together over the points of its attack, and for one training seed")
    return tuple(said)


def _where(point: dict[str, Any]) -> str:
    """ "+27 points [+6, +46] over retrained (20 steps)"."""
    value, low, high = (round(100 * point["excess"][key]) for key in ("value", "low", "high"))
    return f"{value:+d} points [{low:+d}, {high:+d}] over {point['floor']} ({point['step']} steps)"
