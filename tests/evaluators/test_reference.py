"""What the noise test keeps of real images does not depend on the linear algebra library: neither its signs nor its last digits."""

import numpy as np
import pytest

from auditkit_evaluators import reference
from auditkit_evaluators.structure import fit_components

pytestmark = pytest.mark.fast


@pytest.fixture
def another_library(monkeypatch):
    """Singular vectors with every second sign turned and errors of 1e-15, as another build of LAPACK may give them."""
    svd, drawn = np.linalg.svd, np.random.default_rng(0)

    def other(x, full_matrices):
        u, s, directions = svd(x, full_matrices=full_matrices)
        turned = directions * np.where(np.arange(len(directions)) % 2, 1, -1)[:, None]
        return u, s * (1 + 1e-15), turned + 1e-15 * drawn.standard_normal(turned.shape)

    return lambda: monkeypatch.setattr(np.linalg, "svd", other)


def test_the_largest_number_of_a_component_is_positive_whatever_the_library_says(digits, another_library):
    real = digits.part("model")[0]
    found = fit_components(real, 8)
    another_library()
    again = fit_components(real, 8)
    for components in (found, again):
        assert (components.max(axis=1) == np.abs(components).max(axis=1)).all()
    assert np.allclose(found, again, atol=1e-12)


def test_another_library_gives_the_same_reference_to_the_bit(digits, another_library):
    real = digits.part("model")[0][:200]
    found = reference.fit(real)
    another_library()
    again = reference.fit(real)
    for name in ("components", "scale", "effects", "errors"):
        assert getattr(found, name).tobytes() == getattr(again, name).tobytes(), name


def test_kept_numbers_have_nine_places_and_no_negative_zero():
    assert reference.kept(np.array([1 / 3, -2e-10, 5.0])).tobytes() == np.array([0.333333333, 0.0, 5.0]).tobytes()
