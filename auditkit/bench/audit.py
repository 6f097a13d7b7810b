"""Whole commands as a user starts them: wall time from the shell, first words included, in an empty folder of runs."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

COMMANDS = (["--help"], ["unlearn", "--class", "2"], ["audit", "--class", "2"])


def run(repeats: int) -> dict[str, Any]:
    """Seconds until the first word on stderr or stdout, and until the command ends."""
    rows = {}
    for command in COMMANDS:
        taken = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                taken.append(timed(command, folder))
        first, whole = (sorted(times)[len(times) // 2] for times in zip(*taken, strict=True))
        rows[" ".join(command)] = {"first_word": first, "seconds": whole, "worst": max(t for _, t in taken), "n": repeats}
    return {"what": "audit", "commands": rows}


def timed(command: list[str], folder: str) -> tuple[float, float]:
    """Seconds to the first word and to the end of one command. Raises RuntimeError when it fails."""
    environment = {**os.environ, "AUDITKIT_RUNS": folder, "OMP_WAIT_POLICY": "PASSIVE"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "auditkit", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    process.stdout.read(1)
    first = time.perf_counter() - start
    said = process.stdout.read()
    if process.wait() != 0:
        raise RuntimeError(f"auditkit {' '.join(command)} failed: {said.decode(errors='replace').strip().splitlines()[-1:]}")
    return first, time.perf_counter() - start
