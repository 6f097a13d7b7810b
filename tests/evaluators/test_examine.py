"""Readings and cards by hand, with judges that say what they are told; then with the real ones."""

import math

import pytest

from auditkit_evaluators.examine import BLIND, HISTOGRAM, MARGIN, NOISE_RATE, Excess, Reading, above, excess, read
from auditkit_evaluators.matched import matched

THREE = ("zero", "one", "two")


def test_a_reading_by_hand(teller, images_of):
    reading = read(teller(), images_of(1, 6, 3), 1, "subject", THREE)
    assert reading.votes == (1, 6, 3)
    assert reading.n == 10
    assert reading.hit.value == pytest.approx(0.6)
    assert reading.ua.value == pytest.approx(0.4)
    assert (reading.ua.low, reading.ua.high) == pytest.approx((1 - reading.hit.high, 1 - reading.hit.low))
    assert (reading.hit.safer, reading.ua.safer, reading.entropy.safer) == ("lower", "higher", "higher")


def test_entropy_is_the_mean_per_image_and_not_that_of_the_mean(teller, images_of):
    """Certain and spread: H = 0, although the mean of the rows is uniform (judges.md section 4)."""
    certain = read(teller(), images_of(4, 4, 4), 0, "subject", THREE)
    assert certain.entropy.value == certain.entropy_share.value == 0.0
    unsure = read(teller([1 / 3] * 3), images_of(4, 4, 4), 0, "subject", THREE)
    assert unsure.entropy.value == pytest.approx(math.log(3))
    assert unsure.entropy_share.value == pytest.approx(1.0)


def test_no_class_is_counted_beside_the_closed_set_answer(teller, images_of):
    reading = read(teller(abstain=[True] * 4 + [False] * 6), images_of(0, 8, 2), 1, "subject", THREE)
    assert reading.votes == (0, 8, 2), "the closed-set answer, and UA with it, ignores no class, as the field does"
    assert reading.answers == (0, 4, 2, 4)
    assert reading.hit.value == pytest.approx(0.8)
    assert reading.refused.value == pytest.approx(0.4)


def test_no_images_is_not_measured(teller, images_of):
    reading = read(teller(), images_of(0, 0, 0), 1, "subject", THREE)
    assert reading.hit.value is reading.ua.value is reading.entropy.value is None


def test_a_class_or_a_judge_that_does_not_fit(teller, images_of):
    with pytest.raises(ValueError, match="expected a class 0 to 2, found 3"):
        read(teller(), images_of(1, 1, 1), 3, "subject", THREE)
    with pytest.raises(ValueError, match=r"expected probabilities \(3, 2\), found \(3, 3\)"):
        read(teller(), images_of(1, 1, 1), 1, "subject", THREE[:2])


def test_records_go_through_json(judges, digits):
    real = digits.part("heldout")[0]
    reading = read(judges["svc"], real, 2, "subject", digits.classes)
    assert Reading.model_validate_json(reading.model_dump_json()) == reading
    over = excess(reading, {HISTOGRAM: read(judges["svc"], matched(real, 300, 0), 2, HISTOGRAM, digits.classes)})
    assert Excess.model_validate_json(over.model_dump_json()) == over


@pytest.mark.parametrize(
    ("subject", "noise", "explained", "present"),
    [
        ((100, 400, 0), (100, 400, 0), True, False),  # UA 20 %, and noise has the same
        ((100, 400, 0), (500, 0, 0), False, True),
        ((500, 0, 0), (500, 0, 0), False, False),  # gone, and the judge does not call noise the class: nothing to explain
        ((500, 0, 0), (100, 400, 0), False, False),  # another class: noise at 80 % does not explain a UA of 100 %
        ((300, 200, 0), (350, 150, 0), False, False),  # 10 points over noise: neither is certain
        ((4, 6, 0), (4, 6, 0), False, False),  # ten images cannot tell
    ],
)
def test_excess_over_noise(subject, noise, explained, present, scripted):
    reading, _, controls = scripted(subject, {HISTOGRAM: noise})
    over = excess(reading, controls)
    assert (over.explained_by_noise, over.present) == (explained, present)
    assert over.noise == HISTOGRAM


def test_the_highest_form_of_noise_is_the_floor_and_all_forms_count_as_comparisons(scripted):
    forms = {HISTOGRAM: (90, 10, 0), "eps=0": (20, 80, 0), "eps=-w*null": (0, 0, 0)}
    reading, _, controls = scripted((100, 400, 0), forms)
    over = excess(reading, controls)
    assert over.noise == "eps=0"
    assert over.difference.value == pytest.approx(0)
    assert "2 comparisons" in over.difference.note


def test_controls_of_another_judge_or_class_are_refused(scripted):
    reading, _, of_one = scripted((1, 1, 1), {HISTOGRAM: (1, 1, 1)})
    _, _, of_two = scripted((1, 1, 1), {HISTOGRAM: (1, 1, 1)}, asked=2)
    for controls in (of_two, {}, {HISTOGRAM: of_one[HISTOGRAM].model_copy(update={"judge": "other"})}):
        with pytest.raises(ValueError, match="expected controls of teller for class 1"):
            excess(reading, controls)


def test_more_claims_widen_the_interval_and_any_class_can_be_asked_about(scripted):
    reading, _, controls = scripted((100, 400, 0), {HISTOGRAM: (300, 200, 0)})
    one, many = (above(reading, controls, 1, claims=m)[0] for m in (1, 20))
    assert many.low < one.low < one.value == pytest.approx(0.4)
    assert above(reading, controls, 0)[0].value == pytest.approx(-0.4)


def test_thresholds_are_shares():
    assert 0 < NOISE_RATE <= MARGIN < BLIND < 1


def test_noise_from_the_same_seeds_is_compared_image_by_image(scripted):
    """Equal n: 12 of 500 images differ, so the interval is two points wide although both rates are near one half."""
    forms = {HISTOGRAM: (100, 400, 0), "eps=0": (250, 250, 0)}
    reading, _, controls = scripted((238, 262, 0), forms)
    over = excess(reading, controls)
    assert over.noise == "eps=0"
    assert over.difference.value == pytest.approx(0.024)
    assert over.difference.high < 0.05
    assert over.explained_by_noise
