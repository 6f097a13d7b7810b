import numpy as np
import pytest

from auditkit import data, models
from auditkit.stages import source
from auditkit_evaluators import cards, clip, ensemble, reference

KEPT = {}


@pytest.fixture(autouse=True)
def judges_are_made_once(monkeypatch):
    """Judges, their cards and the noise test's reference take seconds and depend on their arguments alone; tests of evaluators make
    them anew, and every test here has its own folder of runs."""

    def once(module, name, key):
        function = getattr(module, name)

        def remembered(*arguments, **options):
            known = (name, key(*arguments, **options))
            if None in known:
                return function(*arguments, **options)
            if known not in KEPT:
                KEPT[known] = function(*arguments, **options)
            return KEPT[known]

        monkeypatch.setattr(module, name, remembered)

    def members(data, *, seed=0, weights=None, only=None):
        return None if weights is not None else (data.sha256, seed, None if only is None else tuple(only))

    once(cards, "measure", lambda judge, data, *, seed=0: (cards.key(judge, data), seed))
    once(ensemble, "build", members)
    once(clip, "build", lambda data, *, model=None, seed=0: None if model else (data.sha256, seed, "clip"))
    once(reference, "fit", lambda real, *, seed=0: (tuple(real.shape), real.sum().item(), seed, "reference"))


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def base():
    """The bundled digits denoiser; tests that train work on copies."""
    return source.bundled("digits").load()


@pytest.fixture
def tiny():
    """A random denoiser small enough to train in a test."""
    return models.build((1, 8, 8), 10, seed=3, architecture={**models.DIGITS, "block_out_channels": (8,), "norm_num_groups": 2})


@pytest.fixture
def pack():
    """Writes a plain pack of noisy plain colours, one for each class, its rows in `order`; returns its images and labels."""

    def make(path, classes=3, each=80, shape=(3, 16, 16), named=True, order=None):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(classes), each)
        colours = rng.integers(40, 216, (classes, shape[0], 1, 1))
        images = (colours[labels] + rng.normal(0, 30, (len(labels), *shape))).clip(0, 255).astype(np.uint8)
        names = {"classes": np.array([f"colour-{k}" for k in range(classes)])} if named else {}
        order = np.arange(len(labels)) if order is None else order
        np.savez(path, images=images[order], labels=labels[order], **names)
        return images, labels

    return make
