"""How time and memory grow: sampling with batch and network, exact neighbours with the reference, and what bigger audits would cost.

    python benchmarks/scale.py docs/results/scale.json

Every number is measured on this machine; docs/scale.md extrapolates from them and says how.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auditkit import models, precision, provenance, sampling
from auditkit.bench import judges
from auditkit.bench.nets import work
from auditkit.stages.cell import prepare

BATCHES = {"digits": (1, 10, 50, 100, 250, 500, 1000), "cifar10": (1, 2, 4, 8, 16)}
CLASSES = (10, 100, 1000)
REFERENCES = (1_000, 3_000, 10_000)


def evaluations(model: models.Model, rows: int) -> float:
    """Seconds for one network evaluation of one image, in batches of `rows`; the median of five."""
    eps = sampling.network(model)
    x, t, labels = torch.randn(rows, *model.shape), torch.full((rows,), 500), torch.zeros(rows, dtype=torch.long)
    taken = []
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            eps(x, t, labels)
            taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[2] / rows


def main(out: Path) -> None:
    prepare()
    rows: dict[str, Any] = {"batch": {}, "classes": {}, "reference": {}}
    for size, batches in BATCHES.items():
        model = work(size).model
        rows["batch"][size] = {str(n): evaluations(model, n) for n in batches}
        print(size, precision.half(model.net), rows["batch"][size], flush=True)
    for k in CLASSES:
        rows["classes"][str(k)] = evaluations(models.build((1, 8, 8), k, seed=0), 100)
    for n in REFERENCES:
        taken, added, _ = judges.measured("auditkit", n, 1)
        rows["reference"][str(n)] = {"seconds": taken[0], "added_bytes": added}
        print(n, rows["reference"][str(n)], flush=True)
    record = {
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "processor": provenance.processor(),
        "versions": provenance.versions(),
    }
    out.write_text(json.dumps({**record, "threads": torch.get_num_threads(), "numpy": np.__version__, **rows}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
