"""When a judge sees a class: in clean images among noise, in degraded ones, and not in its own habits."""

import pytest

from auditkit_evaluators.evidence import gather
from auditkit_evaluators.examine import HISTOGRAM

THREE = ("zero", "one", "two")


def heard(scripted, subject, noise, *, forms=None, known=30, judges=2):
    reading, card, controls = scripted(subject, {HISTOGRAM: noise, **(forms or {})}, known=known, real=30)
    return gather(reading, card, controls, THREE, judges=judges)


def test_a_share_among_noise_is_seen_and_estimated(scripted):
    found = heard(scripted, (400, 100, 0), (500, 0, 0))
    assert found.seen[1]
    assert found.share.value == pytest.approx(0.2, abs=0.02)
    assert found.share.low < 0.2 < found.share.high


def test_a_judges_habit_is_not_seen(scripted):
    found = heard(scripted, (100, 400, 0), (100, 400, 0))
    assert found.seen == {}
    assert found.excess.explained_by_noise
    assert found.note == "this judge cannot tell this class from noise"
    assert not found.informative


def test_the_highest_control_is_the_one_that_counts(scripted):
    """Blurred noise: the surrogate with its spectrum draws the same votes as the images, scattered pixels do not."""
    found = heard(scripted, (100, 400, 0), (500, 0, 0), forms={"phase": (95, 405, 0), "shuffled": (500, 0, 0)})
    assert found.excess.noise == "phase"
    assert "degraded" not in found.seen.values()
    assert found.share.low < 0.02


def test_degraded_is_the_class_that_gains_most(scripted):
    """A cat at a = .75 draws some votes for dog: the larger gain names the class."""
    found = heard(scripted, (200, 100, 200), (500, 0, 0), known=10)
    assert found.seen.get(2) is not None
    assert found.seen.get(1) != "degraded"


def test_confusions_known_from_the_card_are_no_class(scripted):
    """A judge that calls every third zero "one" on its card: the ones among its zeros are explained."""
    reading, card, controls = scripted((330, 170, 0), {HISTOGRAM: (0, 0, 500)}, real=30)
    confused = card.real[0].model_copy(update={"closed": (20, 10, 0), "open": (20, 10, 0, 0)})
    card = card.model_copy(update={"real": (confused, *card.real[1:])})
    found = gather(reading, card, controls, THREE, judges=2)
    assert "clean" not in [how for k, how in found.seen.items() if k == 1]
    assert found.share.low < 0.02


def test_a_control_like_the_class_leaves_nothing_clean_to_be_seen(scripted):
    """A surrogate that draws the answers of the class itself: how much is class and how much surrogate is arbitrary."""
    found = heard(scripted, (0, 500, 0), (500, 0, 0), forms={"signs": (20, 480, 0)})
    assert "clean" not in found.seen.values()
    assert 1 not in found.seen


def test_claims_of_more_judges_need_more_evidence(scripted):
    few, many = (heard(scripted, (455, 45, 0), (500, 0, 0), judges=judges) for judges in (1, 10**6))
    assert 1 in few.seen
    assert 1 not in many.seen
    assert many.claim.low < few.claim.low


def test_a_judge_that_does_not_know_the_class_is_not_informative(scripted):
    found = heard(scripted, (500, 0, 0), (0, 0, 500), known=14)
    assert not found.informative
    assert found.note == "this judge knows only 47 % of real images of this class"


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_are_not_measured(scripted, n):
    found = heard(scripted, (0, n, 0), (1, 0, 0))
    assert found.share.value is None
    assert found.seen == {}
    assert "an estimate needs two" in found.share.note


def test_the_card_and_controls_must_fit(scripted, card_of):
    reading, card, controls = scripted((1, 1, 1), {HISTOGRAM: (1, 1, 1)})
    with pytest.raises(ValueError, match="expected the card of teller"):
        gather(reading, card.model_copy(update={"judge": "other"}), controls, THREE, judges=1)
    with pytest.raises(ValueError, match="its controls with histogram"):
        gather(reading, card, {"phase": controls[HISTOGRAM]}, THREE, judges=1)
