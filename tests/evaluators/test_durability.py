"""The suite's verdict, case by case."""

from dataclasses import replace

import pytest

from auditkit_evaluators.durability import Finding, durability

WANTED = {"repeat": "query", "rescale": "sampler", "finetune": "retain", "relearn": "forget"}
GOOD = [
    Finding(name, tier, broken=False, upper=0.03, adaptive=name == "rescale", validated=True, cost=(k, 10 * k))
    for k, (name, tier) in enumerate(WANTED.items())
]


def judged(*changed, seeds=5, unfit=(), wanted=WANTED):
    """The verdict on GOOD with some findings replaced."""
    by_name = {f.attack: f for f in changed}
    return durability([by_name.get(f.attack, f) for f in GOOD], seeds=seeds, wanted=wanted, unfit=list(unfit))


def broken(k):
    return replace(GOOD[k], broken=True, upper=0.9)


def test_removed_takes_everything():
    assert judged().word == "REMOVED"


@pytest.mark.parametrize(("k", "word"), list(enumerate(["GATED", "GATED", "SUPPRESSED", "DORMANT"])))
def test_the_tier_of_the_cheapest_break_is_the_word(k, word):
    found = judged(*[broken(j) for j in range(k, 4)])
    assert found.word == word
    assert found.cheapest == GOOD[k].attack
    assert found.also == tuple(f.attack for f in GOOD[k + 1 :])


def test_within_a_tier_the_one_with_fewer_images_is_the_cheapest():
    other = replace(broken(0), attack="null-harvest", cost=(0, 5))
    assert durability([replace(broken(0), cost=(0, 9)), other], seeds=1, wanted={}, unfit=[]).cheapest == "null-harvest"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seeds": 1}, "1 trained model of the subject, 5 are needed"),
        ({"unfit": ["it makes nothing"]}, "it makes nothing"),
        ({"wanted": {**WANTED, "lora": "forget"}}, "not tried: lora"),
    ],
)
def test_what_forbids_removed(change, why):
    found = judged(**change)
    assert found.word == "UNDECIDED"
    assert any(why in text for text in found.why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"upper": 0.05}, "may exceed their floors by 5 points or more (repeat: up to 5)"),
        ({"upper": None, "why": "not measured: NaN"}, "repeat: not measured: NaN"),
        ({"validated": False}, "not validated (auditkit selftest): repeat"),
        ({"validated": False, "broken": True}, "repeat broke it, but is not validated"),
    ],
)
def test_one_doubtful_attack_forbids_removed(change, why):
    found = judged(replace(GOOD[0], **change))
    assert found.word == "UNDECIDED"
    assert any(why in text for text in found.why)


def test_without_an_adaptive_attack_nothing_is_removed():
    found = judged(replace(GOOD[1], adaptive=False))
    assert found.word == "UNDECIDED"
    assert "derived from the method's own loss" in found.why[0]


def test_what_is_only_measured_forbids_removed_and_is_no_break():
    found = judged(replace(GOOD[0], tier="measure", broken=True, upper=0.9))
    assert found.word == "UNDECIDED"
    assert "repeat: the weights know the class, and nothing brought it back" in found.why


def test_an_unfit_subject_can_still_be_broken():
    assert judged(broken(0), unfit=["it makes nothing"]).word == "GATED"


@pytest.mark.parametrize("k", [2, 3])
def test_what_learns_counts_only_beside_a_retrained_floor(k):
    alone = replace(broken(k), beside_retrained=False)
    found = judged(alone)
    assert found.word == "UNDECIDED"
    assert f"{alone.attack} exceeds a random network, and there is no retrained floor" in found.why
    assert judged(replace(broken(0), beside_retrained=False)).word == "GATED", "asking teaches nothing"
    assert judged(replace(broken(0), beside_retrained=False, pictures=True)).word == "UNDECIDED"
