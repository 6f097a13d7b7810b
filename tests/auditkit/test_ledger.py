"""What making a model cost: phases, evaluations, memory."""

import mmap
import sys

import pytest
import torch

from auditkit.stages import ledger
from auditkit.unlearn import gate, retrain, safemax, salun


def test_evaluations_by_phase():
    asked = {"forget_images": 100, "classes": 10}
    assert ledger.evaluations(safemax, safemax.Params(steps=2, batch=4), **asked) == {"training": 48}
    assert ledger.evaluations(retrain, retrain.Params(steps=2, batch=4), **asked) == {"training": 24}  # no forget rows
    assert ledger.evaluations(salun, salun.Params(steps=1, batch=1), **asked) == {"mask": 600, "training": 7}
    assert ledger.evaluations(gate, gate.Params(), **asked) == {}


def test_the_first_report_ends_the_preparation(monkeypatch):
    clock = iter((10.0, 13.0, 18.0))
    monkeypatch.setattr(ledger.time, "perf_counter", lambda: next(clock))
    told = []
    phases = ledger.Phases()
    report = phases.step(told.append)
    report(0, float("nan"))
    report(1, 0.5)
    assert phases.seconds == {"preparation": 3.0, "training": 5.0}
    assert told == [0, 1]


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="needs /proc, and speaks of a machine without a GPU")
def test_the_peak_is_seen_and_starts_anew():
    with ledger.peak() as highest:
        held = mmap.mmap(-1, 300_000_000)  # malloc may keep what it frees; this goes back
        held.write(b"x" * 300_000_000)
        held.close()
        first = highest()
    with ledger.peak() as highest:
        second = highest()
    assert first > second
