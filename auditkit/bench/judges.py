"""Exact nearest neighbours of the density judge beside scikit-learn's, on random features: seconds, and memory on top of them."""

import multiprocessing
import resource
import time
from typing import Any

import numpy as np

WIDTH, K = 512, 5


def run(n: int, repeats: int) -> dict[str, Any]:
    """Seconds and added peak memory for n against n rows of 512 numbers, each arm in a process of its own; their distances must agree."""
    rows: dict[str, Any] = {}
    answers = {}
    context = multiprocessing.get_context("spawn")
    for name in ("auditkit", "scikit-learn"):
        with context.Pool(1) as pool:
            taken, added, answers[name] = pool.apply(measured, (name, n, repeats))
        rows[name] = {"seconds": sorted(taken)[len(taken) // 2], "p20": min(taken), "p80": max(taken), "n": repeats, "added_bytes": added}
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


def measured(name: str, n: int, repeats: int) -> tuple[list[float], int, Any]:
    """Seconds of each repeat, the growth of the largest resident set in bytes, and the distances of the first hundred rows."""
    from sklearn.neighbors import NearestNeighbors

    from auditkit_evaluators.neighbours import nearest

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, WIDTH), np.float32), rng.standard_normal((n, WIDTH), np.float32)
    nearest(x[:100], y[:100], K)  # libraries are loaded before memory is read
    before, seconds, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], None
    for _ in range(repeats):
        start = time.perf_counter()
        by_sklearn = NearestNeighbors(n_neighbors=K, algorithm="brute")
        found = nearest(x, y, K)[0] if name == "auditkit" else by_sklearn.fit(y).kneighbors(x)[0]
        seconds.append(time.perf_counter() - start)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found is not None
    return seconds, added, np.asarray(found[:100], dtype=np.float64)
