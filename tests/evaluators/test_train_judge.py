"""CIFAR ResNets from scratch: they learn, the same seed gives the same one, and each part of the recipe is what it says."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from auditkit import data
from auditkit.errors import UserError
from auditkit_evaluators import resnet, train_judge


@pytest.fixture(scope="module")
def stripes() -> data.Dataset:
    """Two classes of 90 colour images, 8 x 8, under noise: rows that alternate, and columns that do. No pixel's mean differs."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(90)
    waves = 60 * (-1) ** torch.arange(8)
    signs = torch.randint(2, (180, 1, 1, 1), generator=rng) * 2 - 1
    clean = torch.where(labels[:, None, None, None] == 0, waves[:, None], waves[None, :]) * signs
    images = (128 + clean + 15 * torch.randn(180, 3, 8, 8, generator=rng)).clamp(0, 255).to(torch.uint8)
    return data.Dataset("stripes", images, labels, ("rows", "columns"), data.split_by_pixels(images.numpy()), "0" * 64)


def test_a_network_learns_what_no_pixel_alone_tells(stripes):
    reported: list[int] = []
    network = train_judge.train(stripes, 20, steps=20, seed=1, report=reported.append)
    images, labels = stripes.part("heldout")
    logits, features = resnet.scores_of(network)(images)
    assert (logits.argmax(axis=1) == labels.numpy()).mean() > 0.9
    assert features.shape == (len(images), 64)
    assert reported == list(range(1, 21))
    assert not network.training


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state(stripes):
    before = torch.get_rng_state()
    first, again, other = (train_judge.train(stripes, 20, steps=2, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_it_learns_from_the_judges_split_alone(stripes):
    """Other images and labels everywhere else: the same weights."""
    elsewhere = torch.from_numpy(stripes.split != "judges")
    images, labels = stripes.images.clone(), stripes.labels.clone()
    images[elsewhere] = 255 - images[elsewhere]
    labels[elsewhere] = 0
    altered = data.Dataset("altered", images, labels, stripes.classes, stripes.split, "1" * 64)
    first, second = (train_judge.train(d, 20, steps=2).state_dict() for d in (stripes, altered))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("layers", "blocks"), [(20, 3), (32, 5), (44, 7), (56, 9)])
def test_layers(stripes, layers, blocks):
    network = train_judge.train(stripes, layers, steps=1)
    assert [len(network.get_submodule(f"layer{k}")) for k in (1, 2, 3)] == [blocks] * 3


def test_the_recipe_by_hand(stripes, monkeypatch):
    """What the optimizer is given, and one step: v = g + wd w; w -= lr (g + wd w + .9 v)."""
    seen = {}

    def fit(network: torch.nn.Module, batches, optimizer: torch.optim.Optimizer, report) -> None:
        rates = [optimizer.param_groups[0]["lr"] for _ in batches]
        seen.update(optimizer.param_groups[0], rates=rates)
        w = next(network.parameters())
        before, w.grad = w.detach().clone(), torch.ones_like(w)
        optimizer.param_groups[0]["lr"] = 0.5
        optimizer.step()
        step = 1 + 5e-4 * before
        assert torch.allclose(w, before - 0.5 * (step + 0.9 * step), atol=1e-6)

    monkeypatch.setattr(train_judge, "fit", fit)
    train_judge.train(stripes, 20, steps=40)
    assert (seen["momentum"], seen["weight_decay"], seen["nesterov"]) == (0.9, 5e-4, True)
    assert seen["rates"][:3] == pytest.approx([0.05, 0.1, 0.1])
    assert seen["rates"][21] == pytest.approx(0.05)
    assert seen["rates"][-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 37 / 38)))


def test_every_image_comes_once_before_any_comes_again():
    rows = torch.cat(list(itertools.islice(train_judge.shuffled(300, torch.Generator().manual_seed(0)), 7)))
    assert len(rows) == 7 * 128
    assert rows[:300].sort().values.tolist() == rows[300:600].sort().values.tolist() == list(range(300))
    assert rows[:300].tolist() != rows[300:600].tolist()
    assert [len(b) for b in itertools.islice(train_judge.shuffled(5, torch.Generator()), 3)] == [5, 5, 5]


def test_crops_are_moves_with_zeros_and_flips_are_mirrors():
    x = torch.arange(1, 601, dtype=torch.float32).reshape(200, 3, 1, 1) + torch.arange(99).reshape(9, 11) / 100
    rng = torch.Generator().manual_seed(0)
    moved, moves = train_judge.cropped(x, rng), set()
    for before, after in zip(x, moved, strict=True):
        found = [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5) if torch.equal(after, shifted(before, dy, dx))]
        assert len(found) == 1
        moves.add(found[0])
    assert {dy for dy, _ in moves} == {dx for _, dx in moves} == set(range(-4, 5))
    mirrored = train_judge.flipped(x, rng)
    turned = (mirrored == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored[~turned], x[~turned])
    assert 70 < int(turned.sum()) < 130


def shifted(image: Tensor, dy: int, dx: int) -> Tensor:
    """Pixel (y, x) of the result is (y + dy, x + dx) of the image, or 0 outside."""
    out = torch.zeros_like(image)
    height, width = image.shape[-2:]
    ys, xs = range(max(0, -dy), min(height, height - dy)), range(max(0, -dx), min(width, width - dx))
    out[:, ys.start : ys.stop, xs.start : xs.stop] = image[:, ys.start + dy : ys.stop + dy, xs.start + dx : xs.stop + dx]
    return out


def test_without_flip_nothing_is_mirrored(stripes, monkeypatch):
    monkeypatch.setattr(train_judge, "flipped", lambda x, rng: 1 / 0)
    train_judge.train(stripes, 20, steps=1, flip=False)
    with pytest.raises(ZeroDivisionError):
        train_judge.train(stripes, 20, steps=1)


def test_what_cannot_be_trained_is_refused(stripes, digits):
    with pytest.raises(UserError, match="trained with 20, 32, 44, 56 layers, got 21"):
        train_judge.train(stripes, 21)
    with pytest.raises(UserError, match="take colour images of at least 8 x 8 pixels, digits has 1 x 8 x 8: train resnet34 instead"):
        train_judge.train(digits, 20)
    with pytest.raises(UserError, match="at least 1 step, got 0"):
        train_judge.train(stripes, 20, steps=0)
    more = data.Dataset("more", stripes.images, stripes.labels, ("rows", "columns", "none"), stripes.split, "0" * 64)
    with pytest.raises(UserError, match="more has none of none in its judges split"):
        train_judge.train(more, 20)


def test_a_diverged_training_is_an_error(stripes, monkeypatch):
    monkeypatch.setattr(train_judge, "LR", 1e30)
    with pytest.raises(FloatingPointError, match="diverged"):
        train_judge.train(stripes, 20, steps=3)
