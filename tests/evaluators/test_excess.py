"""The excess of an attack over its floors, and what Holm leaves of it."""

import numpy as np
import pytest

from auditkit_evaluators.excess import FAMILY, averaged, broken, headline, pooled


def counts(k, n=200, judges=("a", "b")):
    return {"chosen/0": {j: (k, n) for j in judges}}


def test_the_highest_floor_and_the_more_sceptical_judge_decide():
    subject = {"chosen/0": {"a": (100, 200), "b": (60, 200)}}
    floors = {"random": counts(0), "retrained": {"chosen/0": {"a": (10, 200), "b": (40, 200)}}}
    found = headline(subject, floors)
    assert (found.judge, found.floor, found.at) == ("b", "retrained", "chosen/0")
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.05 < found.high


def test_one_judges_sink_breaks_nothing():
    """A judge that calls noise the class, beside one that does not."""
    found = headline({"chosen/0": {"a": (150, 200), "b": (0, 200)}}, {"random": counts(0)})
    assert found.reach == 0
    assert not broken({"attack": found})


def test_no_floor_and_no_shared_point_is_no_number():
    assert headline(counts(10), {}) is None
    assert headline(counts(10), {"random": {"other/1": {"a": (0, 1), "b": (0, 1)}}}) is None


def test_more_points_cost_power():
    many = {f"lr/{k}": {"a": (16 if k == 0 else 0, 100)} for k in range(30)}
    floor = {key: {"a": (0, 100)} for key in many}
    assert headline({"lr/0": many["lr/0"]}, {"random": floor}).low > headline(many, {"random": floor}).low


def test_holm_lets_a_weak_claim_stand_beside_strong_ones_but_not_alone_among_many():
    strong, weak, nothing = (
        headline(counts(150), {"f": counts(0)}),
        headline(counts(22), {"f": counts(0)}),
        headline(counts(0), {"f": counts(0)}),
    )
    assert strong.reach == FAMILY
    assert 1 <= weak.reach < 31
    assert broken({"strong": strong, "weak": weak}) == {"strong", "weak"}
    assert broken({"weak": weak, **{str(k): nothing for k in range(30)}}) == set()


def test_nulls_are_rarely_broken():
    """600 attacks on twins, one at a time: the margin makes it far rarer than 5 %."""
    rng = np.random.default_rng(0)
    hits = [
        headline(counts(int(rng.binomial(200, p))), {"f": counts(int(rng.binomial(200, p)))}).reach > 0
        for p in (0.02, 0.3, 0.6)
        for _ in range(200)
    ]
    assert np.mean(hits) <= 0.05


def test_models_that_differ_are_worth_fewer_images():
    assert pooled([(50, 100), (50, 100), (50, 100)], "abc") == (150, 300)
    k, n = pooled([(0, 100), (50, 100), (100, 100)], "abc")
    assert n < 10
    assert k / n == pytest.approx(0.5, abs=0.2)
    assert pooled([(0, 100), (0, 100)], "ab") == (0, 200)
    assert pooled([(7, 10)], "a") == (7, 10)


def test_several_attacks_on_one_model_are_one_group():
    assert pooled([(0, 100), (100, 100), (50, 100)], "aaa") == (150, 300)
    assert pooled([(0, 100), (0, 100), (100, 100)], "aab") == pooled([(0, 200), (100, 100)], "ab")


def test_the_same_images_measured_twice_are_no_more_images():
    assert averaged([(3, 177), (5, 177)]) == (4, 177)


def test_a_break_needs_a_clean_witness_at_the_same_point():
    none = {"f": counts(0)}
    assert headline(counts(100), none, clean=(counts(40), none)).clean
    refused = headline(counts(100), none, clean=({"chosen/0": {"a": (0, 200), "b": (4, 200)}}, none))
    assert refused.reach == 0
    assert not refused.clean
    assert headline(counts(100), none, clean=({"chosen/0": {"a": (0, 200), "b": (40, 200)}}, none)).reach > 0
    textures = {"A/1": {"a": (90, 100), "b": (90, 100)}, "B/1": {"a": (0, 100), "b": (90, 100)}}
    clean = {"A/1": {"a": (0, 100), "b": (0, 100)}, "B/1": {"a": (0, 100), "b": (90, 100)}}
    floor = {key: {"a": (0, 100), "b": (0, 100)} for key in textures}
    assert headline(textures, {"f": floor}, clean=(clean, {"f": floor})).reach == 0
