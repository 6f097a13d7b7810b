"""Cards of real judges on digits, and what a card is stored under."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from auditkit_evaluators import cards, panel
from auditkit_evaluators.votes import Judge, Votes


@pytest.fixture(scope="module")
def card(judges, digits):
    return cards.measure(judges["svc"], digits)


def test_a_card_states_what_the_judge_does(card, judges, digits):
    images, labels = digits.part("heldout")
    votes = judges["svc"].judge(images)
    assert card.hit.value == pytest.approx((votes.said == labels.numpy()).mean())
    assert card.refused.value == pytest.approx(votes.abstain.mean())
    for k in range(10):
        column, of_class = card.real[k], (labels == k).numpy()
        assert column.n == of_class.sum()
        assert column.closed == tuple(np.bincount(votes.said[of_class], minlength=10))
        assert column.open == tuple(np.bincount(votes.answered[of_class], minlength=11))
        assert card.classes[k].hit.value == column.closed[k] / column.n
    assert set(card.panel) == set(panel.kinds(1))
    assert all(sum(c.closed) == sum(c.open) == c.n == cards.PANEL_N for c in card.panel.values())
    assert card.sink == int(np.argmax(card.panel["normal-1"].closed))
    assert cards.Card.model_validate_json(card.model_dump_json()) == card


def test_a_ladder_is_the_same_in_pieces(judges, digits, monkeypatch):
    images, labels = digits.part("heldout")
    whole = cards._ladder(judges["svc"], images, labels.numpy(), 10, 0)
    monkeypatch.setattr(cards, "AT_ONCE", 333 * 64)
    assert cards._ladder(judges["svc"], images, labels.numpy(), 10, 0) == whole
    every = np.concatenate([np.resize(np.flatnonzero(labels == k), cards.RUNG_N) for k in range(10)])
    seven = judges["svc"].judge(panel.ladder(images[every], 0.5, 0)[700:800])
    assert whole[7][0.5].closed == tuple(np.bincount(seven.said, minlength=10))


def test_no_class_separates_what_closed_answers_do_not(card):
    """The SVC calls sevens and noise the same (TV .02, LR+ 1.x); with "no class" they are worlds apart."""
    seven = card.classes[7]
    assert seven.tv < 0.1
    assert seven.lr.value < 2
    assert seven.tv_open > 0.9
    assert seven.lr_open.value is None
    assert "no noise image of 500 was called it: above" in seven.lr_open.note


def test_the_ladder_climbs_from_noise_to_real_images_and_gives_the_limit_of_detection(card):
    for k, c in enumerate(card.classes):
        rungs = {float(a): m for a, m in c.ladder.items()}
        assert list(rungs) == list(panel.RUNGS)
        assert rungs[1.0].value > 0.9
        assert rungs[0.0].value <= rungs[0.25].value <= rungs[0.75].value <= 1
        assert c.lod.value in panel.RUNGS[1:], k
        assert all(rungs[a].value > rungs[0.0].value for a in rungs if a >= c.lod.value)


@pytest.mark.parametrize(
    ("hits", "lod"),
    [
        ([0, 0, 0, 50, 90], 0.5),
        ([0, 20, 0, 50, 90], 0.5),  # a rung that falls back takes the lower ones with it
        ([0, 20, 40, 50, 90], 0.1),
        ([50, 50, 50, 50, 50], None),
        ([90, 50, 20, 10, 0], None),
    ],
)
def test_limit_of_detection_by_hand(hits, lod):
    found = cards.limit_of_detection({a: (h, 100) for a, h in zip([0.0, 0.1, 0.25, 0.5, 1.0], hits, strict=True)})
    assert found.value == lod


def test_ece_by_hand():
    right = np.array([True, True, False, False])
    assert cards.ece(np.array([1.0, 1.0, 0.5, 0.5]), right).value == pytest.approx(0.25)
    assert cards.ece(np.full(4, 0.5), right).value == pytest.approx(0)
    assert cards.ece(np.array([1.0]), right[:1]).value is None


def test_a_card_is_stored_under_weights_calibration_data_and_what_is_measured(judges, digits, monkeypatch):
    judge = judges["svc"]
    changed = [
        cards.key(replace(judge, sha="other"), digits),
        cards.key(replace(judge, temperature=judge.temperature * 1.01), digits),
        cards.key(replace(judge, name="other"), digits),
        cards.key(judge, replace(digits, sha256="other")),
    ]
    key = cards.key(judge, digits)
    assert cards.key(replace(judge, fitted_on="elsewhere"), digits) == key
    monkeypatch.setattr(cards, "VERSION", cards.VERSION + 1)
    assert len({key, cards.key(judge, digits), *changed}) == 6


def test_a_judge_that_cannot_say_no_class_has_a_card_without_it(digits):
    def judge(images: torch.Tensor) -> Votes:
        return Votes(probs=np.eye(10)[(images.flatten(1).float().mean(dim=1) / 25.6).long().numpy()])

    card = cards.measure(
        Judge(name="mean", family="mean", judge=judge, temperature=1.0, fitted_on="nothing", sha="0", space="none"), digits
    )
    assert card.refused.value is None
    assert card.hit.value < 0.3
    assert all(c.open[-1] == 0 for c in card.real)
    assert any(c.lod.value is None for c in card.classes)


def test_a_class_without_heldout_images_has_no_card(judges, digits):
    split = np.where((digits.labels == 2).numpy() & (digits.split == "heldout"), "model", digits.split)
    with pytest.raises(ValueError, match="held-out images of every class of digits"):
        cards.measure(judges["svc"], replace(digits, split=split))
