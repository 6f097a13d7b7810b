"""Set before anything imports torch or Triton: kernels run in Triton's interpreter, one thread per process."""

import os

os.environ["TRITON_INTERPRET"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "200"

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    """Every test has its own empty folder of runs, and no settings of the developer's."""
    for name in [n for n in os.environ if n.startswith("AUDITKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AUDITKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"
