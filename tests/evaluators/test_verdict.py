"""The four words, each from evidence made by hand, and the condition that failed where there is no word."""

import pytest

from auditkit.results import Measure
from auditkit_evaluators.evidence import gather
from auditkit_evaluators.examine import HISTOGRAM
from auditkit_evaluators.noise import Structure
from auditkit_evaluators.stats import rate
from auditkit_evaluators.verdict import decide

THREE = ("zero", "one", "two")
NOISE = (500, 0, 0)


@pytest.fixture
def witness(scripted):
    """Evidence of a judge of some family that gives `subject` these counts per class; its noise is always "zero"."""

    def make(family, subject, *, asked=1, known=30, noise=NOISE, judges=2, lod=0.1):
        reading, card, controls = scripted(subject, {HISTOGRAM: noise}, asked=asked, known=known, real=30)
        found = gather(reading, card, controls, THREE, judges=judges)
        limit = Measure(name="limit of detection", value=lod, n=100, unit="a", note=None if lod else "never")
        return found.model_copy(update={"family": family, "judge": family, "lod": limit})

    return make


def structure(flagged=5, a=0.002, high=0.01, n=500, p=0.5):
    nothing = Measure(name="x", value=None, n=0, note="not looked at")
    equivalent = Measure(name="a", value=a, n=n, low=0.0, high=high, unit="a", note=None if a is not None else "too few images")
    return Structure(
        n=n,
        flagged=rate("flagged", flagged, n),
        p=p,
        equivalent=equivalent,
        statistics=(),
        saturated=nothing,
        sigma=nothing,
        gaussian=nothing,
    )


def word(*evidence, distinct=None, **about):
    return decide(evidence, structure(**about), THREE, distinct=distinct)


def test_present_needs_two_families(witness):
    seen = (400, 100, 0)
    assert word(witness("trees", seen), witness("kernel", seen)).word == "PRESENT"
    alone = word(witness("trees", seen), witness("trees", seen), witness("kernel", NOISE))
    assert alone.word == "UNDECIDED"
    assert "'one' is seen by trees (clean), trees (clean) alone: PRESENT needs a second family" in alone.why[0]


def test_where_one_family_alone_is_able_all_of_it_decides(witness):
    seen, other = (400, 100, 0), (0, 0, 500)
    blind = witness("kernel", NOISE, known=10)
    found = word(witness("trees", seen), witness("trees", seen), blind)
    assert found.word == "PRESENT"
    assert "(one family, trees: no other is able to)" in found.why[0]
    assert word(witness("trees", seen), witness("trees", NOISE), blind).word == "UNDECIDED"
    assert word(witness("trees", other), witness("trees", other), blind).word == "OTHER CLASS"
    assert word(witness("trees", seen), blind).word == "UNDECIDED", "one judge is no family"
    assert word(witness("trees", NOISE), witness("trees", NOISE), blind).word == "NO CLASS"
    few = witness("trees", (500, 0, 0)).model_copy(update={"share": Measure(name="s", value=0.0, n=500, low=0.0, high=0.2)})
    assert word(witness("trees", NOISE), few, blind).word == "UNDECIDED"


def test_who_is_able_of_the_asked_class_alone_does_not_forbid_another(witness):
    """A judge that knows automobiles and no birds is no witness against birds."""
    other = (0, 0, 500)
    elsewhere = witness("kernel", NOISE)
    assert elsewhere.able == (1, 2)
    assert word(witness("trees", other), witness("trees", other), elsewhere, flagged=500).word == "UNDECIDED"
    blind_there = elsewhere.model_copy(update={"able": (1,)})
    assert word(witness("trees", other), witness("trees", other), blind_there, flagged=500).word == "OTHER CLASS"
    assert word(witness("trees", (400, 100, 0)), witness("trees", (400, 100, 0)), blind_there).word == "UNDECIDED"


def test_present_whatever_else_is_there(witness):
    both = (200, 100, 200)
    assert word(witness("trees", both), witness("kernel", both)).word == "PRESENT"


def test_another_class(witness):
    other = (0, 0, 500)
    found = word(witness("trees", other), witness("kernel", other), flagged=500, a=1.0, high=1.0)
    assert found.word == "OTHER CLASS"
    assert found.why[0] == "'two' is seen by trees (clean), kernel (clean)"
    assert "nobody sees 'one' (its share is at most" in found.why[1]


def test_no_class_needs_silence_of_judges_that_would_have_seen_it(witness):
    found = word(witness("trees", NOISE), witness("kernel", NOISE))
    assert found.word == "NO CLASS"
    assert "as visible as 0.2 % of a real image (at most 1 %); judges see the class from 10 %" in found.why[-1]
    blind = word(witness("trees", NOISE), witness("kernel", NOISE, known=10))
    assert blind.word == "UNDECIDED"
    assert "judges informative about it: 1, NO CLASS needs 2" in blind.why[-1]


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"flagged": 60}, "hold structure that no judge knows: 12.0 % [9.3, 15.2] are flagged"),
        ({"high": 0.2}, "equivalent a up to 0.2) that could be the class: judges see the class from a = 0.1"),
        ({"a": None}, "the noise test was not measured (too few images)"),
        ({"p": 1e-65}, "the images are not independent noise: p = 1e-65"),
    ],
)
def test_structure_that_nobody_knows_is_undecided(about, why, witness):
    found = word(witness("trees", NOISE), witness("kernel", NOISE), **about)
    assert found.word == "UNDECIDED"
    assert why in found.why[-1]


def test_one_odd_picture_that_every_judge_refuses_is_no_class_seen(witness):
    """500 copies of half a white image exceed all their scrambled copies: degraded for every judge, clean for none."""
    seen = [witness(family, (400, 100, 0)).model_copy(update={"seen": {1: "degraded"}}) for family in ("trees", "kernel")]
    assert word(*seen).word == "UNDECIDED"
    assert word(seen[0], witness("kernel", (400, 100, 0))).word == "PRESENT"
    other = [e.model_copy(update={"seen": {2: "degraded"}}) for e in seen]
    assert word(*other, flagged=500).word == "UNDECIDED"


def test_copies_are_not_images(witness):
    for subject in ((400, 100, 0), (0, 0, 500), NOISE):
        evidence = witness("trees", subject), witness("kernel", subject)
        found = word(*evidence, distinct=1)
        assert found.word == "UNDECIDED"
        assert found.why[-1] == "but only 1 of 500 images are distinct: intervals count copies"
        assert word(*evidence, distinct=20).word != "UNDECIDED"


def test_a_few_real_images_among_many_forbid_no_class(witness):
    """8 of 500 are too few to be seen (2 %), and too many to be called absent."""
    few = (492, 8, 0)
    found = word(witness("trees", few), witness("kernel", few))
    assert found.word == "UNDECIDED"
    assert "trees, kernel answer 'one' more often than to any control" in found.why[-1]
    assert word(witness("trees", few), witness("kernel", NOISE)).word == "NO CLASS", "one family alone may be wrong"


def test_few_images_cannot_show_absence(witness):
    found = word(witness("trees", (10, 0, 0)), witness("kernel", (10, 0, 0)))
    assert found.word == "UNDECIDED"
    assert "too few images to put its share below 5 % by judges of two families" in found.why[-1]


def test_the_most_sensitive_informative_judge_sets_the_limit(witness):
    found = word(witness("trees", NOISE, lod=0.005), witness("kernel", NOISE))
    assert found.word == "UNDECIDED"
    assert "judges see the class from a = 0.005" in found.why[-1]
    assert word(witness("trees", NOISE, lod=None), witness("kernel", NOISE)).word == "NO CLASS"
    assert word(witness("trees", NOISE, lod=None), witness("kernel", NOISE, lod=None)).why[-1].endswith("no judge has a limit of detection")


def test_one_judge_never_suffices(witness):
    for subject in (NOISE, (0, 500, 0), (0, 0, 500)):
        assert word(witness("trees", subject)).word == "UNDECIDED"


def test_evidence_about_different_sets_is_refused(witness):
    for wrong in (
        (),
        (witness("trees", NOISE), witness("kernel", NOISE, asked=2)),
        (witness("trees", NOISE), witness("kernel", (1, 0, 0))),
    ):
        with pytest.raises(ValueError, match="evidence about one class and one set"):
            decide(wrong, structure(), THREE)
