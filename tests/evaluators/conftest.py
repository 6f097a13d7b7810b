"""Judges are fitted once per session; the noise panel is small and fixed; scripted judges say what they are told."""

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit import data
from auditkit.results import Measure
from auditkit_evaluators import clip, ensemble
from auditkit_evaluators.cards import Card, ClassCard, Column
from auditkit_evaluators.examine import Controls, Reading, read
from auditkit_evaluators.stats import rate
from auditkit_evaluators.votes import Judge, Votes


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def members(digits: data.Dataset) -> tuple[Judge, ...]:
    return ensemble.build(digits)


@pytest.fixture(scope="session")
def clip_judge(digits: data.Dataset) -> Judge:
    return clip.build(digits)[0]


@pytest.fixture(scope="session")
def judges(members: tuple[Judge, ...], clip_judge: Judge) -> dict[str, Judge]:
    return {judge.name: judge for judge in (*members, clip_judge)}


@pytest.fixture(scope="session")
def noise() -> Tensor:
    """500 images of clamped N(0, 1), uint8 (500, 1, 8, 8)."""
    x = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return data.to_uint8(x)


@pytest.fixture(scope="session")
def colour() -> data.Dataset:
    """Three classes of 9 x 12 colour images, 60 of each: class k is bright in channel k."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(60)
    images = torch.randint(0, 120, (180, 3, 9, 12), generator=rng, dtype=torch.uint8)
    images[torch.arange(180), labels] += 100
    split = data.split_by_pixels(images.numpy())
    return data.Dataset(name="colour", images=images, labels=labels, classes=("red", "green", "blue"), split=split, sha256="0" * 64)


@pytest.fixture
def images_of():
    return _images_of


@pytest.fixture
def teller():
    return _teller


@pytest.fixture
def scripted():
    """The reading, the card and the controls of a judge that gives `subject` and each form of `noise` these counts per class (zero,
    one, two)."""

    def make(subject, noise, asked=1, real=20, known=None, classes=("zero", "one", "two")) -> tuple[Reading, Card, Controls]:
        controls = {form: read(_teller(), _images_of(*counts), asked, form, classes) for form, counts in noise.items()}
        return read(_teller(), _images_of(*subject), asked, "subject", classes), _card(real if known is None else known, real), controls

    return make


@pytest.fixture
def card_of():
    return _card


def _card(known: int, real: int, *, none: bool = True, lod: float | None = 0.1, classes: int = 3) -> Card:
    """The card of a judge that knows `known` of `real` images of each class, calls the others class 0, and knows all noise as none."""
    columns, cards = [], []
    for k in range(classes):
        closed = [0] * classes
        closed[k] += known
        closed[0] += real - known
        columns.append(Column(n=real, closed=tuple(closed), open=(*closed, 0)))
    noise = Column(n=500, closed=(500, *[0] * (classes - 1)), open=(0,) * classes + (500,) if none else (500, *[0] * classes))
    hit = rate("hit rate", known, real)
    missing = Measure(name="limit of detection", value=None, n=100, unit="a", note="never")
    for _ in range(classes):
        limit = missing if lod is None else Measure(name="limit of detection", value=lod, n=100, unit="a")
        ratio = Measure(name="LR+", value=None, n=real, unit="ratio", note="above 9")
        one = {"hit": hit, "hit_open": hit, "worst_noise": "normal-1", "tv": 1.0, "tv_open": 1.0, "lr": ratio, "lr_open": ratio}
        cards.append(ClassCard(**one, ladder={}, ladder_open={}, lod=limit))
    return Card(
        version=1,
        judge="teller",
        family="scripted",
        fitted_on="nothing",
        sha="0",
        data="0",
        temperature=1.0,
        ece=Measure(name="ECE", value=None, n=0, note="none"),
        hit=hit,
        refused=rate("refused", 0, real),
        real=tuple(columns),
        panel={"normal-1": noise},
        sink=0,
        sink_share=rate("sink", 500, 500),
        classes=tuple(cards),
    )


def _images_of(*counts: int) -> Tensor:
    """counts[k] images whose pixels are all k."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels.to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def _teller(probs=None, abstain=None) -> Judge:
    """A judge that gives the first pixel of each image as its class, with certainty, or the row `probs` for every image."""

    def judge(images: Tensor) -> Votes:
        rows = np.eye(3)[images[:, 0, 0, 0].long().numpy()] if probs is None else np.tile(probs, (len(images), 1))
        return Votes(probs=rows, abstain=None if abstain is None else np.asarray(abstain))

    return Judge(name="teller", family="scripted", judge=judge, temperature=1.0, fitted_on="nothing", sha="0", space="none")
