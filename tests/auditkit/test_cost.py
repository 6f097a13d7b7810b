"""What a command will cost: seconds from a clock of the test's own."""

import itertools

import pytest

from auditkit.stages import cost

pytestmark = pytest.mark.fast


def test_seconds_are_the_middle_of_three_passes_times_the_rows(tiny, monkeypatch):
    """Passes of 9 (not counted), 2, 4 and 3 s for 128 rows each: three seconds for 128 rows."""
    clock = itertools.accumulate(step for taken in (9.0, 2.0, 4.0, 3.0) for step in (0.0, taken))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    found = cost.estimate(tiny, evaluations=10 * cost.ROWS, images=7, n=100, models=2)
    assert (found.seconds, found.evaluations) == (30.0, 10 * cost.ROWS)
    assert found.disk_bytes == 7 * 64 + 2 * 4 * tiny.parameters
