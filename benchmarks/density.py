"""How far the density measures can be trusted: null p-values, a table on digits, and the cost of exact neighbours.

Writes one JSON file. The last part, 50,000 against 50,000 features of 512 dimensions, takes about three minutes on two cores.

    python benchmarks/density.py docs/results/density.json
"""

import json
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auditkit import data, provenance
from auditkit_evaluators import density, ensemble, neighbours, twosample
from auditkit_evaluators.matched import matched
from auditkit_evaluators.stats import rate

NULL_SETS, N, M, CLASS, SEED = 200, 100, 100, 7, 0
LARGE, WIDTH, K = 50_000, 512, 5


def null_rates(pool: np.ndarray) -> dict[str, Any]:
    """Share of random disjoint subsets of `pool` (real features) that the tests call different."""
    found: dict[str, Any] = {}
    for name, test in (("C2ST", twosample.c2st), ("MMD", twosample.mmd)):
        p = []
        for seed in range(NULL_SETS):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(pool))
            p.append(test(pool[order[:N]], pool[order[N : N + M]], rng, resamples=0).p)
        found[name] = {str(level): rate(f"p <= {level}", sum(q <= level for q in p), NULL_SETS).model_dump() for level in (0.05, 0.01)}
    return found


def digits_table() -> dict[str, Any]:
    """Each measure of five kinds of images against real sevens of the split `model` and `heldout`, on pixels and a CNN's features."""
    digits = data.load("digits")
    judge = next(j for j in ensemble.build(digits) if j.name == "cnn-a")
    rng = np.random.default_rng(SEED)
    sevens = digits.images[digits.labels == CLASS]
    sevens = sevens[torch.from_numpy(rng.permutation(len(sevens)))]
    fake, reference = sevens[:60], sevens[60:]
    noise = matched(sevens, 300, SEED)
    kinds = {
        "real": fake,
        "noise of the same pixel values": noise,
        "other class (nines)": digits.images[digits.labels == 9],
        "mixture (half real, half noise)": torch.cat([fake, noise[: len(fake)]]),
        "collapsed (3 real images, repeated)": fake[:3].repeat(50, 1, 1, 1),
    }
    spaces = {"pixels": lambda x: x.flatten(1).double().numpy(), "cnn-a": lambda x: judge.judge(x).features}
    table = {}
    for space, features in spaces.items():
        real = features(reference)
        rows = {kind: density.compare(features(x), real, space=space, seed=SEED) for kind, x in kinds.items()}
        table[space] = {kind: {m.name: m.model_dump(exclude={"name"}, exclude_none=True) for m in row} for kind, row in rows.items()}
    return {"class": CLASS, "reference": len(reference), "n": {kind: len(x) for kind, x in kinds.items()}, "spaces": table}


def small_cost(results: Any) -> None:
    rng = np.random.default_rng(SEED)
    x, y = rng.normal(size=(500, 64)), rng.normal(size=(300, 64))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        density.compare(x, y, space="normal")
        seconds.append(time.perf_counter() - start)
    results.put(
        {
            "rows": [500, 300],
            "width": 64,
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "seconds": [round(s, 2) for s in seconds],
        }
    )


def large_cost(results: Any) -> None:
    x, y = (np.random.default_rng(s).standard_normal((LARGE, WIDTH), dtype=np.float32) for s in (0, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    distances, _ = neighbours.nearest(x, y, K)
    middle = time.perf_counter()
    counts = neighbours.inside(x, y, np.full(LARGE, np.median(distances)))
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    some = np.random.default_rng(2).integers(LARGE, size=20)
    brute = np.stack([np.sort(np.sqrt(np.square(x[i].astype(float) - y).sum(axis=1)))[:K] for i in some])
    results.put(
        {
            "rows": [LARGE, LARGE],
            "width": WIDTH,
            "k": K,
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),  # other work on the machine: above the threads, seconds are too many
            "nearest_seconds": round(middle - start, 1),
            "inside_seconds": round(end - middle, 1),
            "inputs_mib": round((x.nbytes + y.nbytes) / 2**20),
            "peak_rss_before_mib": round(before / 1024),
            "peak_rss_mib": round(peak / 1024),
            "largest_relative_error_of_100_distances": float(np.abs(distances[some] / brute - 1).max()),
            "mean_count": float(counts.mean()),
        }
    )


def alone(work: Any, threads: int) -> dict[str, Any]:
    """What `work` puts into its queue, in a process of its own: the peak of memory is its own, and threads are set at the start."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=work, args=(results,))
    worker.start()
    found = results.get()
    worker.join()
    return dict(found)


def main(out: Path) -> None:
    digits = data.load("digits")
    judge = next(j for j in ensemble.build(digits) if j.name == "cnn-a")
    nulls = {
        "digits, cnn-a features": null_rates(judge.judge(digits.images).features),
        "lognormal, 20 dimensions": null_rates(np.exp(np.random.default_rng(SEED).normal(size=(4000, 20)))),
    }
    record = {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "seed": SEED,
        "null": {"sets": NULL_SETS, "rows": [N, M], "rates": nulls},
        "digits": digits_table(),
        "cost": {"compare": alone(small_cost, threads=1), "neighbours": alone(large_cost, threads=2)},
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    for name, tests in nulls.items():
        print(name, {t: {level: m["value"] for level, m in found.items()} for t, found in tests.items()})
    for space, kinds in record["digits"]["spaces"].items():
        for kind, row in kinds.items():
            print(
                space, kind, {name.split(" (")[0]: round(m["value"], 3) for name, m in row.items() if "value" in m and "real v" not in name}
            )
    print(record["cost"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
