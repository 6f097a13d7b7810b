import pytest

from auditkit import data, models
from auditkit.stages import source


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
