"""Kill a suite at random moments and start it again: nothing may be lost, and the numbers may not change.

python benchmarks/kills.py docs/results/kills.json [20]

Every run of the interrupted folder is compared with a suite that was left alone: same names, same digests.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from auditkit import provenance, rundir

SUITE = [sys.executable, "-m", "auditkit", "attack", "quick", "--model", "", "--class", "2", "--json"]


def start(folder: Path, model: str) -> subprocess.Popen[bytes]:
    command = [model if word == "" else word for word in SUITE]
    environment = {**os.environ, "AUDITKIT_RUNS": str(folder)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def digests(folder: Path) -> dict[str, str]:
    os.environ["AUDITKIT_RUNS"] = str(folder)
    return {run.name: run.digest for run in rundir.finished("attack-", "suite-")}


def main() -> None:
    out, kills = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    rng, base = random.Random(0), Path(tempfile.mkdtemp())
    whole, cut = base / "whole", base / "cut"
    for folder in (whole, cut):
        environment = {**os.environ, "AUDITKIT_RUNS": str(folder)}
        subprocess.run([sys.executable, "-m", "auditkit", "unlearn", "--class", "2"], env=environment, check=True, capture_output=True)
    model = next(p.name for p in whole.iterdir() if p.name.startswith("unlearn-"))
    began = time.monotonic()
    assert start(whole, model).wait() == 0
    seconds, done = time.monotonic() - began, 0
    while done < kills:
        process = start(cut, model)
        try:
            if process.wait(timeout=rng.uniform(5, max(8, 2 * seconds / kills + 8))) == 0:
                break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the command and its workers
            process.wait()
            done += 1
            print(f"kill {done}: {len(digests(cut))} of {len(digests(whole))} runs finished", file=sys.stderr, flush=True)
    assert start(cut, model).wait() == 0
    first, second = digests(whole), digests(cut)
    record = {
        "commit": provenance.commit(),
        "kills": done,
        "runs": len(first),
        "same": first == second,
        "different": [n for n in first if first[n] != second.get(n)],
    }
    out.write_text(json.dumps(record) + "\n")
    print(json.dumps(record))
    assert first == second


if __name__ == "__main__":
    main()
