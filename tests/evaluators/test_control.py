"""The positive control: silence counts only where the class, or its like, was seen."""

import pytest

from auditkit_evaluators import control
from auditkit_evaluators.evidence import gather
from auditkit_evaluators.examine import HISTOGRAM
from auditkit_evaluators.verdict import Verdict

pytestmark = pytest.mark.fast

THREE = ("zero", "one", "two")
SEEN, NOISE = (100, 400, 0), (500, 0, 0)


@pytest.fixture
def witness(scripted):
    """Evidence about class 1 of a judge that votes so; `known` of 30 real images of it are known to the judge."""

    def make(subject, *, known=30, asked=1):
        reading, card, controls = scripted(subject, {HISTOGRAM: NOISE}, asked=asked, known=known, real=30)
        return gather(reading, card, controls, THREE, judges=2)

    return make


def test_one_informative_judge_that_sees_the_class_is_enough(witness):
    found = control.of_images([witness(NOISE), witness(SEEN)], THREE, where="original")
    assert found.passed
    assert found.why.startswith("positive control: the original itself shows 'one', seen by")


def test_an_original_without_the_class_fails_with_its_count(witness):
    found = control.of_images([witness(NOISE), witness((490, 10, 0))], THREE, where="original")
    assert not found.passed
    assert found.why.startswith("the original itself shows 'one' in 10 of 500 images (by ")
    assert found.why.endswith("wrong schedule, label or model?")


def test_a_judge_that_knows_nothing_of_the_class_is_no_witness(witness):
    """It may see anything: of the real images it knows a third."""
    blind = witness(SEEN, known=10)
    assert not blind.informative
    found = control.of_images([blind], THREE, where="original")
    assert not found.passed
    assert "none of the judges is informative about 'one'" in found.why


def test_without_an_original_half_of_the_retained_classes_have_to_be_seen(witness):
    there, gone = witness((0, 0, 500), asked=2), witness(NOISE, asked=2)
    assert control.of_retained({2: [there], 0: [gone]}, 1, THREE).passed
    failed = control.of_retained({2: [there], 0: [gone], 3: [gone]}, 1, THREE)
    assert not failed.passed
    assert failed.why.startswith(
        "no original was given to show 'one', and of 3 retained classes the judges see 1 in the subject's own images (500 of each)"
    )
    assert not control.of_retained({}, 1, THREE).passed


@pytest.mark.parametrize("word", ["PRESENT", "OTHER CLASS", "NO CLASS", "UNDECIDED"])
def test_where_it_fails_every_word_but_present_is_undecided_and_says_so_first(witness, word):
    verdict = Verdict(word=word, asked=1, n=500, why=("as it was",))
    failed = control.of_images([witness(NOISE)], THREE, where="original")
    passed = control.of_images([witness(SEEN)], THREE, where="original")
    assert control.controlled(verdict, passed) == verdict
    found = control.controlled(verdict, failed)
    assert found.word == ("PRESENT" if word == "PRESENT" else "UNDECIDED")
    assert found.why == (("as it was",) if word == "PRESENT" else (failed.why, "as it was"))


def test_too_few_images_are_called_that(witness):
    assert control.of_images([witness((9, 1, 0))], THREE, where="real images").why.endswith("10 images are too few to tell")


def test_a_subject_whose_labels_alone_are_mixed_up_has_no_control(witness):
    """Asked for a class it draws the next one, and the original does not: it was never asked for what was forgotten."""
    passed = control.of_images([witness(SEEN)], THREE, where="original")
    found = control.with_labels(passed, original=None, subject="labels look shifted by one")
    assert not found.passed
    assert found.why == "of the subject the labels look shifted by one, and those of the original do not"
    both = control.with_labels(passed, original="labels look mixed up", subject="labels look mixed up")
    assert both.passed
    assert both.why == f"{passed.why} labels look mixed up"
    assert control.with_labels(passed, original=None, subject=None) == passed
