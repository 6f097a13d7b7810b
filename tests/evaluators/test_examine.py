"""Readings and cards by hand, with judges that say what they are told; then with the real ones."""

import math

import numpy as np
import pytest

from auditkit_evaluators.examine import BLIND, HISTOGRAM, MARGIN, NOISE_RATE, Card, Excess, Reading, card, excess, read
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


def test_abstained_images_count_in_n_and_in_no_class(teller, images_of):
    reading = read(teller(abstain=[True] * 4 + [False] * 6), images_of(0, 8, 2), 1, "subject", THREE)
    assert reading.votes == (0, 4, 2)
    assert reading.hit.value == pytest.approx(0.4)
    assert reading.hit.n == 10


def test_no_images_is_not_measured(teller, images_of):
    reading = read(teller(), images_of(0, 0, 0), 1, "subject", THREE)
    assert reading.hit.value is reading.ua.value is reading.entropy.value is None


def test_a_class_or_a_judge_that_does_not_fit(teller, images_of):
    with pytest.raises(ValueError, match="expected a class 0 to 2, found 3"):
        read(teller(), images_of(1, 1, 1), 3, "subject", THREE)
    with pytest.raises(ValueError, match=r"expected probabilities \(3, 2\), found \(3, 3\)"):
        read(teller(), images_of(1, 1, 1), 1, "subject", THREE[:2])


def test_a_card_of_a_real_judge(judges, digits):
    noise = {HISTOGRAM: matched(digits.part("heldout")[0], 300, 0), "eps=0": matched(digits.part("model")[0], 200, 1)}
    made = card(judges["svc"], digits, 2, noise)
    assert made.real.n == 308
    assert made.real_class.n == 32
    assert made.real.low > 0.95
    assert set(made.noise) == set(noise)
    assert made.noise["eps=0"].n == 200
    assert made.sink == int(np.argmax(made.noise[HISTOGRAM].votes))
    assert made.sink_share.value == max(made.noise[HISTOGRAM].votes) / 300
    assert Card.model_validate_json(made.model_dump_json()) == made
    reading = read(judges["svc"], digits.part("heldout")[0], 2, "subject", digits.classes)
    assert Reading.model_validate_json(reading.model_dump_json()) == reading
    over = excess(reading, made)
    assert Excess.model_validate_json(over.model_dump_json()) == over


def test_a_card_needs_the_histogram_form(digits, judges, images_of):
    with pytest.raises(ValueError, match="expected noise images under 'histogram', found eps=0"):
        card(judges["svc"], digits, 2, {"eps=0": images_of(3)})


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
    over = excess(*scripted(subject, {HISTOGRAM: noise}))
    assert (over.explained_by_noise, over.present) == (explained, present)
    assert over.noise == HISTOGRAM


def test_the_highest_form_of_noise_is_the_floor_and_all_forms_count_as_comparisons(scripted):
    forms = {HISTOGRAM: (90, 10, 0), "eps=0": (20, 80, 0), "eps=-w*null": (0, 0, 0)}
    over = excess(*scripted((100, 400, 0), forms))
    assert over.noise == "eps=0"
    assert over.difference.value == pytest.approx(0)
    assert "2 comparisons" in over.difference.note


def test_a_card_of_another_judge_or_class_is_refused(scripted):
    reading, card_of_one = scripted((1, 1, 1), {HISTOGRAM: (1, 1, 1)})
    _, card_of_two = scripted((1, 1, 1), {HISTOGRAM: (1, 1, 1)}, asked=2)
    with pytest.raises(ValueError, match="expected the card of teller for class 1"):
        excess(reading, card_of_two)
    with pytest.raises(ValueError, match="expected the card of other"):
        excess(reading.model_copy(update={"judge": "other"}), card_of_one)


def test_thresholds_are_shares():
    assert 0 < NOISE_RATE <= MARGIN < BLIND < 1


def test_noise_from_the_same_seeds_is_compared_image_by_image(scripted):
    """Equal n: 12 of 500 images differ, so the interval is two points wide although both rates are near one half."""
    forms = {HISTOGRAM: (100, 400, 0), "eps=0": (250, 250, 0)}
    over = excess(*scripted((238, 262, 0), forms))
    assert over.noise == "eps=0"
    assert over.difference.value == pytest.approx(0.024)
    assert over.difference.high < 0.05
    assert over.explained_by_noise
