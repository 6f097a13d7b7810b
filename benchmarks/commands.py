"""The bars on the commands: wall time and peak memory of each, in fresh folders, one after the other on an idle machine.

python benchmarks/commands.py docs/results/commands-cpu.json
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from auditkit import provenance

AUDITKIT = [sys.executable, "-m", "auditkit"]
# name, bar in seconds, commands of which the last is measured (the others prepare the folder)
CASES = [
    ("help", 0.3, [["--help"]]),
    ("unlearn --class 2", 20, [["unlearn", "--class", "2"]]),
    ("attack relearn --steps 100", 45, [["unlearn", "--class", "2"], ["attack", "relearn", "--steps", "100"]]),
    (
        "evaluate --judges ensemble,clip",
        30,
        [["unlearn", "--class", "2"], ["attack", "relearn", "--steps", "100"], ["evaluate", "--judges", "ensemble,clip"]],
    ),
    ("audit --class 2", 90, [["audit", "--class", "2"]]),
]


def measure(arguments: list[str], folder: str) -> tuple[float, float]:
    """Wall seconds, and the largest resident set of any one process in MB, by GNU time's own report of the child."""
    environment = {**os.environ, "AUDITKIT_RUNS": folder, "OMP_WAIT_POLICY": "PASSIVE"}
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *AUDITKIT, *arguments], env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout) / 1024


def main(out: Path) -> None:
    rows = []
    for name, bar, commands in CASES:
        seconds, memory = [], []
        for _ in range(5 if name == "help" else 2):
            with tempfile.TemporaryDirectory() as folder:
                for arguments in commands[:-1]:
                    measure(arguments, folder)
                taken, peak = measure(commands[-1], folder)
                seconds.append(round(taken, 2))
                memory.append(round(peak))
        rows.append({"command": name, "bar_seconds": bar, "seconds": seconds, "worst": max(seconds), "peak_mb": max(memory)})
        print(rows[-1], flush=True)
    record = {"commit": provenance.commit(), "machine": provenance.machine(), "versions": provenance.versions(), "commands": rows}
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
