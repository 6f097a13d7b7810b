"""Exact nearest neighbours of the density judge beside scikit-learn's, on random features: seconds, and memory on top of them."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.bench import timing

WIDTH, K = 512, 5


def run(n: int, repeats: int) -> dict[str, Any]:
    """Seconds and added peak memory for n against n rows of 512 numbers, each arm in a process of its own; their distances must agree."""
    rows: dict[str, Any] = {}
    answers = {}
    context = multiprocessing.get_context("spawn")
    for name in ("auditkit", "scikit-learn"):
        with context.Pool(1) as pool:
            taken, added, answers[name] = pool.apply(measured, (name, n, repeats))
        rows[name] = {**timing.summary(taken, 0), **({} if added is None else {"added_bytes": added})}
    off = float(np.abs(answers["auditkit"] - answers["scikit-learn"]).max() / answers["scikit-learn"].max())
    if not off < 1e-6:
        return {"what": "judges", "wrong": f"distances differ by {off:.1e}"}
    return {
        "what": "judges",
        "rows": n,
        "width": WIDTH,
        "k": K,
        "arms": rows,
        "times_ours": {"scikit-learn": rows["scikit-learn"]["seconds"] / rows["auditkit"]["seconds"]},
    }


def measured(name: str, n: int, repeats: int) -> tuple[list[float], int | None, Any]:
    """Seconds of each repeat, growth of the largest resident set in bytes (None where the system does not say), distances of 100 rows."""
    from sklearn.neighbors import NearestNeighbors

    from auditkit_evaluators.neighbours import nearest

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, WIDTH), np.float32), rng.standard_normal((n, WIDTH), np.float32)
    nearest(x[:100], y[:100], K)  # libraries are loaded before memory is read
    before, seconds, found = peak(reset=True), [], None
    for _ in range(repeats):
        start = time.perf_counter()
        by_sklearn = NearestNeighbors(n_neighbors=K, algorithm="brute")
        found = nearest(x, y, K)[0] if name == "auditkit" else by_sklearn.fit(y).kneighbors(x)[0]
        seconds.append(time.perf_counter() - start)
    after = peak()
    added = None if before is None or after is None else after - before
    assert found is not None
    return seconds, added, np.asarray(found[:100], dtype=np.float64)


def peak(*, reset: bool = False) -> int | None:
    """The largest resident set of this process in bytes, since its start or the last reset; getrusage's is inherited from the parent."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
