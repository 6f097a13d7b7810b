"""One command of auditkit in this process: what it said as JSON, its seconds and its peak of GPU memory.

python benchmarks/peak.py OUT.json audit --class 2
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import torch

from auditkit import provenance, rundir
from auditkit.cli import run

SUMMARY = "summary.json"


def main(out: Path, words: list[str]) -> int:
    highest, reset = [0], torch.cuda.reset_peak_memory_stats

    def kept() -> None:  # stages reset the peak for their own counts
        highest.append(torch.cuda.max_memory_allocated())
        reset()

    torch.cuda.reset_peak_memory_stats = kept
    said, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(said):
        code = run([*words, "--json"])
    seconds = time.perf_counter() - start
    if torch.cuda.is_available():
        highest.append(torch.cuda.max_memory_allocated())
    record = json.loads(said.getvalue()) if code == 0 else {"said": said.getvalue()}
    made = rundir.find(record["run"]) if "run" in record else None
    summary = made.read_json(SUMMARY) if made and SUMMARY in made.result.files else None
    about = {"command": words, "exit": code, "seconds": seconds, "peak_gpu_bytes": max(highest), "processor": provenance.processor()}
    about |= {"commit": provenance.commit(), "machine": provenance.machine(), "versions": provenance.versions()}
    out.write_text(json.dumps({**about, "digest": record.get("digest"), "summary": summary}, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
