"""The bound in the right unit: .190 and .256, not .056."""

import math

import numpy as np
import pytest

from auditkit_evaluators import fano


def test_weak_and_tight_by_hand():
    assert fano.weak(1.13, 10) == pytest.approx(0.190, abs=0.0005)
    assert fano.tight(1.13, 10) == pytest.approx(0.256, abs=0.0005)
    assert fano.weak(0.1, 10) == 0


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_tight_bound_is_never_below_the_weak_one_and_reaches_chance(classes):
    for h in np.linspace(0, math.log(classes), 9):
        p = fano.tight(h, classes)
        assert p >= fano.weak(h, classes) - 1e-9
        assert 0 <= p <= 1 - 1 / classes + 1e-12
    assert fano.tight(0.0, classes) == 0
    assert fano.tight(math.log(classes), classes) == pytest.approx(1 - 1 / classes)


def test_two_classes_have_a_tight_bound_where_the_weak_one_is_empty():
    assert fano.weak(0.5, 2) == 0
    assert fano.tight(0.5, 2) == pytest.approx(0.1997, abs=0.0001)  # h(.1997) = .5 nats


@pytest.mark.parametrize(("h", "classes"), [(-0.1, 10), (2.4, 10), (0.1, 1), (float("nan"), 10)])
def test_what_is_no_entropy_is_refused(h, classes):
    with pytest.raises(ValueError, match=r"expected 0 <= H <= ln K"):
        fano.tight(h, classes)


def test_conditional_entropy_of_confusions():
    assert fano.conditional_entropy(np.eye(10) * 50) == pytest.approx(0)
    assert fano.conditional_entropy(np.full((10, 10), 5)) == pytest.approx(math.log(10))
    # Class 2's noise is all called 2: nothing is lost, says the bound, although the class is gone. It inherits its judge's failure.
    assert fano.bound("j", np.eye(10, dtype=int) * 50)[2].value == 0
    # Called 6: one in ten recovered sixes was a two. H = (2/10) ln 2.
    moved = np.eye(10) * 50
    moved[2] = moved[6]
    assert fano.conditional_entropy(moved) == pytest.approx(0.2 * math.log(2))


def test_unequal_numbers_of_images_do_not_change_the_prior():
    counts = np.array([[50, 0], [0, 5000]])
    assert fano.conditional_entropy(counts) == pytest.approx(0)
    with pytest.raises(ValueError, match="images in each row"):
        fano.conditional_entropy(np.array([[1, 0], [0, 0]]))


def test_measures_are_labelled_as_a_bound_given_the_judge_with_intervals():
    rng = np.random.default_rng(0)
    h, weak, tight = fano.bound("svc", rng.multinomial(50, np.full(10, 0.1), size=10))
    assert [m.name for m in (h, weak, tight)] == [
        "svc: H(asked | recovered)",
        "svc: Fano, weak: error at least",
        "svc: Fano, tight: error at least",
    ]
    for m in (h, weak, tight):
        assert m.low <= m.value <= m.high
        assert "given svc" in m.note
        assert m.n == 500
    assert h.unit == "nats"
    assert h.value < math.log(10), "the plug-in is biased low"
