"""The contract of a judge, over every judge there is; and what only the ensemble promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import auditkit_evaluators
from auditkit import data
from auditkit.errors import UserError
from auditkit_evaluators import ensemble

# Hits on the 308 held-out digits when this was written (scikit-learn 1.9.1, torch 2.15.0, one thread, seed 0).
MEASURED = {"svc": 0.987, "knn": 0.981, "forest": 0.968, "logistic": 0.968, "cnn-a": 0.948, "cnn-b": 0.977, "clip": 0.942}


@pytest.mark.parametrize("name", MEASURED)
def test_tells_real_heldout_images_apart(name, judges, digits):
    images, labels = digits.part("heldout")
    hit = (judges[name].judge(images).probs.argmax(axis=1) == labels.numpy()).mean()
    assert hit >= 0.88
    assert hit == pytest.approx(MEASURED[name], abs=0.04)  # other builds of torch round otherwise


@pytest.mark.parametrize("name", MEASURED)
def test_votes_are_probabilities_and_do_not_depend_on_the_batch(name, judges, digits, noise):
    images = torch.cat([digits.part("heldout")[0][:20], noise[:10]])
    votes = judges[name].judge(images)
    assert votes.probs.shape == (30, 10)
    assert votes.probs.dtype == np.float64
    np.testing.assert_allclose(votes.probs.sum(axis=1), 1)
    assert votes.abstain.shape == (30,)
    assert votes.abstain[20:].mean() > 0.5
    assert votes.abstain[:20].mean() < 0.3
    single = [judges[name].judge(image[None]) for image in images]
    np.testing.assert_allclose(np.concatenate([v.probs for v in single]), votes.probs, atol=1e-5)
    if votes.features is not None:
        assert votes.features.shape[0] == 30
        np.testing.assert_allclose(np.concatenate([v.features for v in single]), votes.features, atol=1e-4)
    assert judges[name].judge(images[:0]).probs.shape == (0, 10)


@pytest.mark.parametrize("name", MEASURED)
def test_refuses_floats(name, judges):
    with pytest.raises(ValueError, match="expected images uint8"):
        judges[name].judge(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("name", MEASURED)
def test_calibrated_probabilities_are_no_overconfident_ones(name, judges, digits):
    """Mean confidence on held-out images is the hit rate to 6 points: expected calibration error with one bin."""
    images, labels = digits.part("heldout")
    probs = judges[name].judge(images).probs
    assert abs(probs.max(axis=1).mean() - (probs.argmax(axis=1) == labels.numpy()).mean()) < 0.06


def test_the_table_is_every_judge(judges):
    assert set(judges) == set(MEASURED)
    assert len({judge.family for judge in judges.values()} - {"contrastive"}) >= 5


def test_the_same_seed_gives_the_same_votes_and_another_seed_other_networks(members, digits, noise):
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    again = ensemble.build(digits)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(members, again, strict=True):
        assert (a.name, a.family, a.temperature, a.fitted_on, a.sha) == (b.name, b.family, b.temperature, b.fitted_on, b.sha)
        np.testing.assert_array_equal(a.judge(noise).probs, b.judge(noise).probs)


def test_the_hash_follows_the_weights(members):
    other = {judge.name: judge.sha for judge in ensemble.build(data.load("digits"), seed=1)}
    assert len({judge.sha for judge in members}) == len(members)
    assert all(judge.sha != other[judge.name] for judge in members if judge.family in ("trees", "convolution"))


def test_members_can_be_built_alone_and_share_the_space_of_pixels(digits, members):
    alone = ensemble.build(digits, only=("svc", "cnn-b"))
    assert [(j.name, j.space, j.sha) for j in alone] == [(j.name, j.space, j.sha) for j in members if j.name in ("svc", "cnn-b")]
    assert {j.space for j in members} == {"pixels", "cnn-a", "cnn-b"}
    assert tuple(ensemble.MEMBERS) == auditkit_evaluators.MEMBERS


def test_two_networks_of_one_recipe_disagree_on_noise_but_not_on_digits(judges, digits, noise):
    def votes(name, images):
        return judges[name].judge(images).probs.argmax(axis=1)

    real = digits.part("heldout")[0]
    assert (votes("cnn-a", real) == votes("cnn-b", real)).mean() > 0.88
    assert (votes("cnn-a", noise) == votes("cnn-b", noise)).mean() < 0.6


def test_any_number_of_classes_channels_and_pixels(colour):
    judges = ensemble.build(colour, seed=1)
    assert [judge.name for judge in judges] == list(ensemble.MEMBERS)
    for judge in judges:
        images, labels = colour.part("heldout")
        probs = judge.judge(images).probs
        assert probs.shape == (len(images), 3)
        assert (probs.argmax(axis=1) == labels.numpy()).mean() > 0.8, judge.name


@pytest.mark.fast
def test_two_classes(digits):
    two = replace(digits, images=digits.images[digits.labels < 2], labels=digits.labels[digits.labels < 2], classes=("zero", "one"))
    two = replace(two, split=digits.split[(digits.labels < 2).numpy()])
    for judge in ensemble.build(two):
        images, labels = two.part("heldout")
        assert (judge.judge(images).probs.argmax(axis=1) == labels.numpy()).mean() > 0.9, judge.name


def test_a_class_without_images_and_images_too_small_are_refused(digits):
    without = np.where((digits.labels == 2).numpy() & (digits.split == "judges"), "model", digits.split)
    with pytest.raises(UserError, match="none of two in its judges split"):
        ensemble.build(replace(digits, split=without))
    with pytest.raises(UserError, match="at least 8 x 8 pixels, digits has 8 x 7"):
        ensemble.build(replace(digits, images=digits.images[..., :7]))
