"""Which class a model draws for each label: shifted by one, or in another order, it is asked for one class and audited for another."""

from collections import Counter
from collections.abc import Mapping, Sequence

from auditkit_evaluators.stats import rate

LEAST = 3  # labels whose class is sure, before anything is called a pattern
MOST = 0.5  # of them, which must show another class than they were asked for
CLEAR = 0.75  # of the labels that a pattern must explain: the rest may be classes that look alike
ERROR = 0.05  # of all claims together
SHOWN = 3  # examples in the sentence

Counts = Mapping[int, Mapping[str, Sequence[int]]]  # label to judge to votes over all classes


def drawn(counts: Counts) -> dict[int, int]:
    """The class that the images of each label surely show: more than half of them, by more than half of the judges, all labels, judges
    and claims together (Bonferroni). Labels that show none are left out."""
    claims = max(1, sum(len(by_judge) for by_judge in counts.values()))
    found = {}
    for label, by_judge in counts.items():
        best = [max(range(len(votes)), key=votes.__getitem__) for votes in by_judge.values()]
        sure = [
            k
            for k, votes in zip(best, by_judge.values(), strict=True)
            if (rate("drawn", votes[k], sum(votes), confidence=1 - ERROR / claims).low or 0.0) > MOST
        ]
        for k in set(sure):
            if 2 * sure.count(k) > len(by_judge):
                found[label] = k
    return found


def pattern(shown: Mapping[int, int], classes: Sequence[str]) -> str | None:
    """The sentence about labels that draw other classes than their own; None where fewer than half of the sure ones do, or few are sure."""
    wrong = {label: k for label, k in shown.items() if k != label}
    if len(shown) < LEAST or len(wrong) < MOST * len(shown):
        return None
    shifts = Counter((label - k) % len(classes) for label, k in shown.items())
    shift, times = shifts.most_common(1)[0]
    if shift and times >= CLEAR * len(shown):
        first = "; in this model the null row may come first" if shift == 1 else ""
        far = min(shift, len(classes) - shift)
        moved = {label: k for label, k in wrong.items() if (label - k) % len(classes) == shift}
        return f"labels look shifted by {'one' if far == 1 else far}: {_examples(moved, classes)}{first}"
    numbers = {label: k for label, k in wrong.items() if classes[k].isdecimal() and int(classes[k]) == label}
    if len(numbers) >= CLEAR * len(wrong):
        return f"labels look like the numbers in the class names, which are sorted as text here: {_examples(numbers, classes)}"
    return f"labels look mixed up: {_examples(wrong, classes)}"


def _examples(shown: Mapping[int, int], classes: Sequence[str]) -> str:
    return ", ".join(f"images asked for {classes[label]!r} show {classes[k]!r}" for label, k in list(shown.items())[:SHOWN])
