"""Fidelity is of named features, of equal and named N, at random, beside real v real, or not measured with the reason."""

import numpy as np
import pytest
import torch

from auditkit_evaluators import fidelity, rows
from auditkit_evaluators.extractor import Extractor, judge_extractor
from auditkit_evaluators.fidelity import compare


def projection(width, seed, name="projection"):
    """Random directions of the pixels as features, four of them as logits."""
    mix = np.random.default_rng(seed).normal(size=(64, width))

    def function(images):
        features = images.flatten(1).double().numpy() / 255 @ mix
        return features, features[:, :4]

    return Extractor(name=name, sha=f"{seed:064d}", function=function)


@pytest.fixture(scope="module")
def classes(digits):
    """Eights, nines and sevens: 170 each, in two halves."""
    found = {k: digits.images[digits.labels == k][:170] for k in (7, 8, 9)}
    order = torch.randperm(170, generator=torch.Generator().manual_seed(0))
    return {k: x[order[:85]] for k, x in found.items()}, {k: x[order[85:]] for k, x in found.items()}


def table(found):
    return {m.name: m for m in found}


def test_every_name_carries_the_extractor_and_the_classes_and_is_followed_by_its_null(classes):
    found = compare(*classes, projection(6, 0))
    names = [m.name for m in found]
    assert len(set(names)) == len(names)
    assert all("(projection)" in name and not name.startswith("FID,") for name in names)
    for where in ("retained", "class 7", "class 8", "class 9"):
        for metric in ("FID", "KID", "precision", "recall"):
            at = names.index(f"{metric} (projection), {where}")
            assert names[at + 1] == f"{metric} (projection), {where}, real v real"
            assert found[at].n == (255 if where == "retained" else 85)
            assert "42 against 42" in found[at + 1].note or where == "retained"
            assert found[at].low <= found[at].value <= found[at].high
            assert found[at + 1].low < found[at + 1].value < found[at + 1].high  # five splits that differ
    assert names.count("IS (projection), retained") == 1
    assert not any(name.startswith("IS") and "class" in name for name in names)
    assert not set(names) & {m.name for m in compare(*classes, projection(6, 0, name="Inception v3"))}


def test_a_judge_sees_real_digits_as_real_and_noise_as_far_away(classes, members):
    mine = judge_extractor(next(j for j in members if j.name == "cnn-a"))
    real = table(compare(*classes, mine))
    rng = torch.Generator().manual_seed(0)
    noise = {k: torch.randint(0, 256, x.shape, generator=rng, dtype=torch.uint8) for k, x in classes[0].items()}
    far = table(compare(noise, classes[1], mine))
    for metric in ("FID", "KID"):
        name = f"{metric} (judge cnn-a features), retained"
        assert far[name].low > real[name].high
        assert far[name].low > far[f"{name}, real v real"].high
    assert far["precision (judge cnn-a features), retained"].high < real["precision (judge cnn-a features), retained"].low
    null = real["KID (judge cnn-a features), retained, real v real"]
    assert real["KID (judge cnn-a features), retained"].low < null.high
    assert real["IS (judge cnn-a features), retained"].value == pytest.approx(3, abs=0.3)


def test_the_same_number_on_both_sides_of_each_class_and_the_value_is_rows_own(classes):
    fake, real = classes
    fake = {**fake, 7: fake[7][:40]}
    found = table(compare(fake, real, projection(6, 0)))
    assert found["FID (projection), class 7"].n == 40
    assert "40 against 40" in found["FID (projection), class 7, real v real"].note  # 80 of 85 real sevens make two of 40
    assert found["FID (projection), retained"].n == 40 + 85 + 85
    same = table(compare({7: fake[7]}, {7: real[7][:40]}, projection(6, 0)))
    a, b = (projection(6, 0).function(x)[0] for x in (fake[7], real[7][:40]))
    assert same["FID (projection), class 7"].value == pytest.approx(rows.fid(a, b), rel=1e-9)


def test_subsets_are_random_and_not_the_head(classes):
    """A reference sorted by sub-type: its head alone is another distribution."""
    real = {7: torch.cat([classes[1][7], 255 - classes[1][7]])}
    fake = {7: real[7][::2]}
    found = table(compare(fake, real, projection(3, 0)))
    head = rows.fid(*(projection(3, 0).function(x)[0] for x in (fake[7], real[7][:85])))
    assert found["FID (projection), class 7"].value < head / 10


def test_two_extractors_and_two_data_sets_of_one_shape_never_share_a_number(classes):
    fake, real = classes
    first, other = compare(fake, real, projection(6, 0)), compare(fake, real, projection(6, 1))
    inverted = compare({k: 255 - x for k, x in fake.items()}, real, projection(6, 0))
    assert first[0].value != other[0].value
    assert inverted[0].value > 10 * first[0].value
    assert compare(fake, real, projection(6, 0)) == first
    assert compare(fake, real, projection(6, 0), seed=1) != first


def test_too_few_images_are_not_measured_metric_by_metric(classes):
    few = {7: classes[0][7][:3]}
    found = table(compare(few, {7: classes[1][7]}, projection(6, 0)))
    assert found["FID (projection), class 7"].note == "not measured: needs at least 7 images a side for 6 features, has 3"
    assert found["KID (projection), class 7"].note == "not measured: needs at least 20 images a side, has 3"
    assert found["recall (projection), class 7"].note == "not measured: needs at least 4 images a side, has 3"
    assert found["IS (projection), retained"].note == "not measured: needs at least 100 images a side, has 3"
    wide = table(compare({7: classes[0][7]}, {7: classes[1][7]}, projection(85, 0)))
    assert wide["FID (projection), class 7"].value is None
    assert wide["KID (projection), class 7"].value is not None
    none = table(compare({7: classes[0][7][:0]}, {7: classes[1][7]}, projection(6, 0)))
    assert none["FID (projection), class 7"].note == "not measured: no images"
    assert none["FID (projection), retained"].value is None


def test_collapsed_and_broken_features_are_not_measured(classes):
    fake, real = {7: classes[0][7]}, {7: classes[1][7]}
    found = table(compare({7: fake[7][:1].repeat(85, 1, 1, 1)}, real, projection(6, 0)))
    assert "collapsed" in found["recall (projection), class 7"].note
    assert found["precision (projection), class 7"].value in (0, 1)
    assert found["FID (projection), class 7"].value > 0
    constant = Extractor(name="constant", sha="0", function=lambda x: (np.full((len(x), 6), 0.1), np.zeros((len(x), 4))))
    assert {m.note for m in compare(fake, real, constant)[:4]} == {"not measured: collapsed features: all images of a side are one point"}
    broken = Extractor(name="broken", sha="0", function=lambda x: (np.full((len(x), 6), np.nan), np.zeros((len(x), 4))))
    assert {m.note for m in compare(fake, real, broken)[:4]} == {"not measured: NaN or infinite features"}


def test_float_images_other_shapes_and_other_classes_are_refused(classes):
    fake, real = classes
    with pytest.raises(ValueError, match="uint8"):
        compare({k: x.float() / 255 for k, x in fake.items()}, real, projection(6, 0))
    with pytest.raises(ValueError, match="uint8"):
        compare(fake, {k: x.float() / 255 for k, x in real.items()}, projection(6, 0))
    with pytest.raises(ValueError, match="8, 8"):
        compare({k: x[..., :7] for k, x in fake.items()}, real, projection(6, 0))
    with pytest.raises(ValueError, match=r"found \[7, 8, 9\] and \[7\]"):
        compare(fake, {7: real[7]}, projection(6, 0))


@pytest.mark.fast
def test_the_jackknife_interval_of_fid_is_as_wide_as_repetition_says():
    """Gaussians of 4 features, N = 100 a side, 40 repetitions: the mean half-width over 2.09 against the sd of the values."""
    values, widths = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sides = [(rng.normal(shift, 1, size=(100, 4)), np.zeros((100, 2))) for shift in (0.8, 0)]
        values.append(rows.fid(sides[0][0], sides[1][0]))
        widths.append(fidelity._jackknife("FID", *sides, rng))
    assert np.mean(widths) == pytest.approx(np.std(values, ddof=1), rel=0.3)


def test_wide_features_have_no_interval_and_say_so(classes, monkeypatch):
    monkeypatch.setattr(fidelity, "CHEAP", 5)
    found = table(compare(*classes, projection(6, 0)))
    assert found["FID (projection), retained"].note == "no interval: 6 features, 255 images a side"
    assert found["FID (projection), retained, real v real"].note.startswith("1 random split")
