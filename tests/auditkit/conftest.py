import pytest

from auditkit import data, models
from auditkit.stages import source
from auditkit_evaluators import cards

MEASURED = {}


@pytest.fixture(autouse=True)
def cards_are_measured_once(monkeypatch):
    """A card takes a second and depends on its key and seed alone; every test has its own folder of runs."""
    measure = cards.measure

    def remembered(judge, data, *, seed=0):
        key = cards.key(judge, data), seed
        if key not in MEASURED:
            MEASURED[key] = measure(judge, data, seed=seed)
        return MEASURED[key]

    monkeypatch.setattr(cards, "measure", remembered)


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
