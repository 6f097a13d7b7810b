import numpy as np
import pytest
from pydantic import ValidationError

from auditkit.results import Measure, canonical, rounded

pytestmark = pytest.mark.fast


def test_a_measure_survives_json():
    m = Measure(name="hit", value=0.25, n=100, low=0.17, high=0.35, safer="lower")
    assert Measure.model_validate_json(m.model_dump_json()) == m


def test_not_measured_is_a_value_that_needs_a_reason():
    assert Measure(name="hit", value=None, n=0, note="no images").text() == "not measured"
    with pytest.raises(ValidationError, match="needs a note"):
        Measure(name="hit", value=None, n=0)


@pytest.mark.parametrize("bad", [{"value": float("nan")}, {"value": 0.5, "low": None}, {"value": 0.5, "surprise": 1}])
def test_nan_a_share_without_interval_and_unknown_keys_are_refused(bad):
    with pytest.raises(ValidationError):
        Measure(**{"name": "hit", "n": 10, "low": 0.1, "high": 0.9, **bad})


def test_canonical_json_does_not_depend_on_order_and_refuses_nan():
    assert canonical({"b": 1, "a": [1.5]}) == canonical({"a": [1.5], "b": 1}) == b'{"a":[1.5],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.1 + 0.2, 0.3),
        (1 / 3, 0.3333333333),
        (-2 / 3e-300, -6.666666667e299),
        (1.23456789012e-300, 1.23456789e-300),
        (0.05, 0.05),
        (np.float64(1 / 3), 0.3333333333),
        ({"a": (1 / 3, [2 / 3])}, {"a": [0.3333333333, [0.6666666667]]}),
    ],
)
def test_floats_are_rounded_to_ten_digits_wherever_they_stand(value, wanted):
    assert rounded(value) == wanted
    assert rounded(wanted) == wanted, "twice is once"


@pytest.mark.parametrize("value", [12345678901234567890, True, None, "0.30000000000000004", [True, 3], {"0.30000000000000004": 1}])
def test_what_is_no_float_stays_as_it_is(value):
    assert repr(rounded(value)) == repr(value)
