"""Set before anything imports torch or Triton: kernels run in Triton's interpreter, one thread per process, and no GPU is seen.

With `--device cuda` kernels are compiled and a GPU is there (benchmarks/gpu.sh). Other conftests import Triton before pytest has read its
options, so the command line is looked at here; processes that xdist starts inherit what was decided.
"""

import os
import sys

on_gpu = "--device=cuda" in sys.argv or ("--device", "cuda") in zip(sys.argv, sys.argv[1:], strict=False)
if "PYTEST_XDIST_WORKER" not in os.environ and not on_gpu:
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "200"

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_addoption(parser):
    about = "Where kernels and recorded steps are tested: cpu (in Triton's interpreter) or cuda (compiled)."
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help=about)


def pytest_configure(config):
    """Refuses a GPU that is not there, and a compiled kernel that would be interpreted: both would pass without testing anything."""
    if config.getoption("--device") != "cuda":
        return
    if os.environ.get("TRITON_INTERPRET"):
        raise pytest.UsageError(
            "--device cuda compiles kernels, but TRITON_INTERPRET is set: unset it, and give --device on the command line"
        )
    if not torch.cuda.is_available():
        raise pytest.UsageError(f"--device cuda needs a GPU, and torch {torch.__version__} sees none: leave it out to test on the CPU")


@pytest.fixture(scope="session")
def device(pytestconfig):
    """ "cpu", or "cuda" where --device says so."""
    return pytestconfig.getoption("--device")


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
