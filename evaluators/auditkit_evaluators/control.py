"""The positive control: the judges that find nothing in the subject must find the class where it is (docs/verdict.md).

A model sampled with a schedule that it was not trained with, asked by a wrong label, or that never knew the class shows nothing of it
either, and "nobody sees it" says nothing about forgetting.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from auditkit.results import Record
from auditkit_evaluators.evidence import Evidence
from auditkit_evaluators.verdict import Verdict

FEW = 20  # images below which nothing is surely seen
HALF = 0.5  # of the retained classes, where there is no original


class Control(Record):
    """Whether the asked judges see class `asked` where it has to be: in the original's images, in real ones, or without either the
    retained classes in the subject's. `why` is the sentence; where it failed, the first reason of the verdict. `labels` is the sentence
    about labels that draw other classes than their own, or None.
    """

    asked: int
    where: Literal["original", "real images", "retained classes"]
    passed: bool
    why: str
    labels: str | None = None


def of_images(evidence: Sequence[Evidence], classes: Sequence[str], *, where: Literal["original", "real images"]) -> Control:
    """By images of one class: some informative judge sees it. `evidence` is every judge's, about that class."""
    asked, n = evidence[0].reading.asked, evidence[0].reading.n
    name = classes[asked]
    informative = [e for e in evidence if e.informative]
    seen = [e for e in informative if asked in e.seen]
    who = "the original itself shows" if where == "original" else f"{n} real held-out images, read in the same way, show"
    if seen:
        why = f"positive control: {who} {name!r}, seen by {', '.join(e.judge for e in seen)}"
    elif informative:
        best = max(informative, key=lambda e: e.reading.votes[asked])
        count = f"{best.reading.votes[asked]} of {n} images (by {best.judge})"
        hint = "wrong schedule, label or model?" if where == "original" else "wrong data set or judges?"
        hint = f"{n} images are too few to tell" if n < FEW else hint
        why = f"{who} {name!r} in {count}, no more than its noise does: {hint}"
    else:
        why = f"none of the judges is informative about {name!r}, so that none could see it: ask others (--judges, --judge-weights)"
    return Control(asked=asked, where=where, passed=bool(seen), why=why)


def of_retained(evidence: Mapping[int, Sequence[Evidence]], asked: int, classes: Sequence[str]) -> Control:
    """Without an original: at least half of the retained classes are seen in the subject's own images. `evidence` is by class."""
    seen = [k for k, found in evidence.items() if any(e.informative and k in e.seen for e in found)]
    n = min((found[0].reading.n for found in evidence.values()), default=0)
    return by_retained(asked, classes[asked], seen=len(seen), of=len(evidence), n=n, who="the judges see")


def by_retained(asked: int, name: str, *, seen: int, of: int, n: int, who: str) -> Control:
    """The control without an original, where `who` sees so many `of` the retained classes in n images of each."""
    said = f"of {of} retained classes {who} {seen} in the subject's own images ({n} of each)"
    passed = of > 0 and seen >= HALF * of
    why = f"positive control without an original: {said}"
    if not passed:
        hint = "wrong schedule, label or model, or too few images? Give --original, or more --retain-n"
        why = f"no original was given to show {name!r}, and {said}: {hint}"
    return Control(asked=asked, where="retained classes", passed=passed, why=why)


def with_labels(one: Control, *, original: str | None, subject: str | None) -> Control:
    """The control beside the sentences about labels that draw other classes (labels.pattern) in the original and in the subject.

    The subject alone drawing other classes is a failure: what it was asked for is not what the original was asked for.
    """
    if subject is not None and original is None:
        whose = "these images" if one.where == "real images" else "the subject"
        alone = f"of {whose} the {subject}{', and those of the original do not' if one.where == 'original' else ''}"
        return one.model_copy(update={"passed": False, "why": alone if one.passed else f"{one.why} {subject}", "labels": subject})
    mixed = original or subject
    return one if mixed is None else one.model_copy(update={"why": f"{one.why} {mixed}", "labels": mixed})


def controlled(verdict: Verdict, control: Control) -> Verdict:
    """The verdict beside its positive control: where that failed, every word but PRESENT is UNDECIDED, and says so first."""
    if control.passed or verdict.word == "PRESENT":
        return verdict
    return verdict.model_copy(update={"word": "UNDECIDED", "why": (control.why, *verdict.why)})
