"""The sentences, word for word; then every real judge, asked about its own sink class, on noise and on real images."""

import numpy as np
import pytest

from auditkit_evaluators import cards
from auditkit_evaluators.examine import HISTOGRAM, excess, read
from auditkit_evaluators.matched import matched
from auditkit_evaluators.sentence import sentence

THREE = ("zero", "one", "two")


def spoken(reading, card, controls, classes=THREE):
    return sentence(reading, excess(reading, controls), card, controls, classes)


@pytest.mark.parametrize(
    ("subject", "noise", "said"),
    [
        (
            (88, 412, 0),
            (95, 405, 0),
            "teller: calls 412 of 500 images 'one' (82 % [79, 86]), and 81 % of matched noise (histogram) too: "
            "its UA of 18 % says what this judge calls noise, not that the class is there.",
        ),
        (
            (497, 3, 0),
            (388, 2, 110),
            "teller: calls 3 of 500 images 'one' (0.6 % [0.1, 1.7]), and 0.4 % of matched noise (histogram): "
            "no more of the class than noise holds; it calls noise 'zero' (78 %).",
        ),
        (
            (180, 320, 0),
            (495, 5, 0),
            "teller: calls 320 of 500 images 'one' (64 % [60, 68]) against 1.0 % of matched noise (histogram): "
            "+63 points [58, 67], the class is there.",
        ),
        (
            (480, 20, 0),
            (500, 0, 0),
            "teller: calls 20 of 500 images 'one' (4.0 % [2.5, 6.1]) against 0.0 % of matched noise (histogram): +4 points [2, 6], "
            "more than in noise but too little to say that the class is there.",
        ),
        (
            (6, 4, 0),
            (8, 2, 0),
            "teller: calls 4 of 10 images 'one' (40 % [12, 74]) against 20 % of matched noise (histogram): "
            "+20 points [-25, 58], undecided at this number of images.",
        ),
        ((0, 0, 0), (8, 2, 0), "teller: not measured: no images"),
    ],
)
def test_word_for_word(subject, noise, said, scripted):
    assert spoken(*scripted(subject, {HISTOGRAM: noise})) == said


def test_a_judge_that_does_not_know_the_class_says_so(scripted):
    noise = {HISTOGRAM: (500, 0, 0)}
    said = spoken(*scripted((500, 0, 0), noise, real=30, known=3))
    assert said.endswith("it calls noise 'zero' (100 %) (it knows only 10 % [2, 27] of the real ones).")
    assert "none is held out" in spoken(*scripted((500, 0, 0), noise, real=0))


@pytest.mark.parametrize("name", ["svc", "knn", "forest", "logistic", "cnn-a", "cnn-b", "clip"])
def test_noise_asked_as_a_judges_own_sink_is_explained_by_noise_and_real_images_are_not(name, judges, digits, noise):
    """UA of pure noise is far below 100 % for the sink class of every judge: the field would say "not forgotten"."""
    judge = judges[name]
    sink = int(np.bincount(judge.judge(noise).probs.argmax(axis=1), minlength=10).argmax())
    card = cards.measure(judge, digits)

    def heard(images):
        controls = {HISTOGRAM: read(judge, matched(images, 2000, 1), sink, HISTOGRAM, digits.classes)}
        reading = read(judge, images, sink, "images", digits.classes)
        return reading, excess(reading, controls), sentence(reading, excess(reading, controls), card, controls, digits.classes)

    reading, over, said = heard(noise)
    assert reading.ua.high < 0.9
    assert not over.present
    assert over.explained_by_noise
    assert "says what this judge calls noise" in said

    images, labels = digits.part("heldout")
    _, over, said = heard(images[labels == sink])
    assert over.present
    assert said.endswith("the class is there.")
