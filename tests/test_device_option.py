"""pytest --device: a GPU that is asked for and not there is one clear error, never a skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("interpreted", [False, True])
def test_a_gpu_that_cannot_be_tested_is_one_error(interpreted):
    environment = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "PYTEST_XDIST_WORKER")}
    environment |= {"CUDA_VISIBLE_DEVICES": ""} | ({"TRITON_INTERPRET": "1"} if interpreted else {})
    command = [sys.executable, "-m", "pytest", "-n", "0", str(HERE / "kernels" / "test_launch.py"), "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent)
    assert done.returncode == 4, done.stdout
    assert ("TRITON_INTERPRET is set" if interpreted else "needs a GPU, and torch") in done.stderr
    assert "passed" not in done.stdout


def test_without_it_no_test_sees_a_gpu():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["TRITON_INTERPRET"] == "1"
