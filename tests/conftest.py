"""Set before anything imports torch or Triton: kernels run in Triton's interpreter, one thread per process."""

import os
import sys

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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder for plug-ins; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
