"""The verdict: four words by the rule of docs/verdict.md, with every input and the reason beside it."""

from collections.abc import Sequence
from typing import Literal

from auditkit.results import Measure, Record
from auditkit_evaluators.evidence import Evidence
from auditkit_evaluators.noise import Structure

Word = Literal["PRESENT", "OTHER CLASS", "NO CLASS", "UNDECIDED"]

WITNESSES = 2  # families that must agree, since judges of one family fail together; or judges, where one family alone is able
ABSENT = 0.05  # an informative judge must put the share of the class surely below this before its silence counts
SURELY_NOT_NOISE = 0.001  # p of the noise test for the whole set
DISTINCT = 20  # different images: fewer are one mode, whose every copy would count
RULE = 5  # number of this rule, part of every request
FLAGGED = 0.02  # twice the false alarm of the noise test


class Verdict(Record):
    """`word` about one set of n images asked to show a class, and the sentences that led to it."""

    word: Word
    asked: int
    n: int
    why: tuple[str, ...]


def decide(evidence: Sequence[Evidence], structure: Structure, classes: Sequence[str], *, distinct: int | None = None) -> Verdict:
    """The verdict on one set of images from every judge's evidence and the noise test; `distinct` of them differ (default: all).

    Raises:
        ValueError: no evidence, or evidence about different classes or different numbers of images.
    """
    asked, n = {e.reading.asked for e in evidence}, {e.reading.n for e in evidence}
    if len(asked) != 1 or len(n) != 1:
        raise ValueError(f"expected evidence about one class and one set, found classes {sorted(asked)} and n {sorted(n)}")
    [k], [count] = asked, n
    word, why = _rule(evidence, structure, k, classes)
    if distinct is not None and distinct < min(count, DISTINCT) and word != "UNDECIDED":
        word, why = "UNDECIDED", [*why, f"but only {distinct} of {count} images are distinct: intervals count copies"]
    return Verdict(word=word, asked=k, n=count, why=tuple(why))


def _rule(evidence: Sequence[Evidence], structure: Structure, asked: int, classes: Sequence[str]) -> tuple[Word, list[str]]:
    by_class = {k: [e for e in evidence if k in e.seen] for k in range(len(classes))}
    saw = by_class[asked]
    name = classes[asked]
    if _agreed(asked, saw, evidence):
        return "PRESENT", [f"{name!r} is seen by {_names(saw, asked)}{_one_family(saw)}"]
    others = {k: found for k, found in by_class.items() if k != asked and _agreed(k, found, evidence)}
    if saw:
        return "UNDECIDED", [
            f"{name!r} is seen by {_names(saw, asked)} alone: PRESENT needs a second family (or all judges that are able), one clean"
        ]
    if others:
        k = max(others, key=lambda k: (_families(others[k]), len(others[k])))
        seen = f"{classes[k]!r} is seen by {_names(others[k], k)}{_one_family(others[k])}"
        return "OTHER CLASS", [seen, f"nobody sees {name!r}{_at_most(evidence)}"]
    return _absence(evidence, structure, name)


def _absence(evidence: Sequence[Evidence], structure: Structure, name: str) -> tuple[Word, list[str]]:
    why = [f"nobody sees {name!r}{_at_most(evidence)}"]
    informative = [e for e in evidence if e.informative]
    silent = [e for e in informative if e.share.high is not None and e.share.high <= ABSENT]
    if len(informative) < WITNESSES:
        return "UNDECIDED", [
            *why,
            f"judges informative about it: {len(informative)}, NO CLASS needs {WITNESSES}; --judge-weights adds networks",
        ]
    if not (_families(silent) >= WITNESSES or (_families(informative) == 1 and len(silent) == len(informative))):
        return "UNDECIDED", [
            *why,
            f"too few images to put its share below {100 * ABSENT:.0f} % by judges of two families, or by all of one",
        ]
    flagged, a = structure.flagged, structure.equivalent
    if flagged.low is None or a.value is None or a.high is None:
        return "UNDECIDED", [*why, f"the noise test was not measured ({flagged.note or a.note})"]
    more = [e for e in evidence if e.answers_more]
    if _families(more) >= WITNESSES:
        return "UNDECIDED", [
            *why,
            f"a few images may show it: {', '.join(e.judge for e in more)} answer {name!r} more often than to any control",
        ]
    if structure.p is not None and structure.p < SURELY_NOT_NOISE:
        return "UNDECIDED", [*why, f"the images are not independent noise: p = {structure.p:.1g} by the noise test"]
    if flagged.low > FLAGGED:
        return "UNDECIDED", [*why, f"the images hold structure that no judge knows: {flagged.text(1)} are flagged by the noise test"]
    limit = min((e.lod.value for e in informative if e.lod.value is not None), default=None)
    if limit is None or a.high >= limit:
        needs = "no judge has a limit of detection" if limit is None else f"judges see the class from a = {limit:g}"
        return "UNDECIDED", [*why, f"the images hold structure (equivalent a up to {a.high:.2g}) that could be the class: {needs}"]
    why.append(
        f"as visible as {100 * a.value:.2g} % of a real image (at most {100 * a.high:.2g} %); judges see the class from {100 * limit:g} %"
    )
    return "NO CLASS", why


def _agreed(k: int, found: Sequence[Evidence], evidence: Sequence[Evidence]) -> bool:
    """Whether those who see class `k` are enough, one of them clean: two families, or, where one family alone is able to see it, all its
    able judges and two at least."""
    able = [e for e in evidence if k in e.able]
    if not any(e.seen[k] == "clean" for e in found):
        return False  # one odd picture for the whole set, refused by every judge, exceeds all its scrambled copies
    unanimous = len(able) >= WITNESSES and _families(able) == 1 and all(e in found for e in able)
    return _families(found) >= WITNESSES or unanimous


def _one_family(found: Sequence[Evidence]) -> str:
    return "" if _families(found) >= WITNESSES else f" (one family, {found[0].family}: no other is able to)"


def _families(evidence: Sequence[Evidence]) -> int:
    return len({e.family for e in evidence})


def _names(evidence: Sequence[Evidence], k: int) -> str:
    return ", ".join(f"{e.judge} ({e.seen[k]})" for e in evidence)


def _at_most(evidence: Sequence[Evidence]) -> str:
    """The second tightest upper bound among the judges whose silence counts: one judge alone excludes nothing."""
    shares: list[Measure] = [e.share for e in evidence if e.informative]
    highs = sorted(m.high for m in shares if m.high is not None)
    return f" (its share is at most {100 * highs[1]:.1f} % by two judges)" if len(highs) > 1 else ""
