"""The intervals' bars: coverage and width by simulation, and Fano's numbers.

python benchmarks/intervals.py docs/results/intervals.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom, binomtest

from auditkit import provenance
from auditkit_evaluators import fano, mixture, stats

RATES, SIZES = (0.002, 0.01, 0.05, 0.2, 0.5), (50, 100, 500, 2000)
SIMULATIONS = 500


def clopper_pearson() -> list[dict[str, float]]:
    """Exact coverage (summed over all k) and expected width beside Wilson's, for each rate and size."""
    rows = []
    for n in SIZES:
        k = np.arange(n + 1)
        ours = np.array([stats.clopper_pearson(int(i), n) for i in k])
        wilson = np.array([binomtest(int(i), n).proportion_ci(method="wilson") for i in k])
        for p in RATES:
            weight = binom.pmf(k, n, p)
            inside = (ours[:, 0] <= p) & (p <= ours[:, 1])
            width, other = ((x[:, 1] - x[:, 0]) @ weight for x in (ours, wilson))
            rows.append({"n": n, "p": p, "coverage": float(weight @ inside), "width_over_wilson": float(width / other)})
    return rows


def bootstrap_mean() -> list[dict[str, Any]]:
    """Coverage of the bootstrapped mean of entropies: of near-certain, of spread and of noise-like judges."""
    rows = []
    rng = np.random.default_rng(0)
    for name, alpha in (("certain", 0.1), ("between", 0.5), ("spread", 5.0)):
        truth = stats.entropy(rng.dirichlet(np.full(10, alpha), size=200_000)).mean()
        for n in (100, 500):
            draws = (stats.entropy(rng.dirichlet(np.full(10, alpha), size=n)) for _ in range(SIMULATIONS))
            found = [stats.mean_measure("H", x, unit="nats", seed=i) for i, x in enumerate(draws)]
            rows.append({"entropies": name, "n": n, "coverage": sum(m.low <= truth <= m.high for m in found) / SIMULATIONS})
    return rows


def shares() -> list[dict[str, Any]]:
    """Coverage of a class's share: columns of a good judge measured on `real` images a class, 500 votes."""
    rows, k = [], 10
    columns = np.full((k + 1, k + 1), 0.02 / (k - 2))
    for c in range(k):
        columns[c, c], columns[c, (c + 1) % k], columns[c, k] = 0.90, 0.03, 0.05
    columns[k], columns[k, k] = 0.002, 0.98
    columns /= columns.sum(axis=1, keepdims=True)
    for real in (31, 200):
        for share, rest in ((0.0, k), (0.05, k), (0.2, k), (0.5, k), (0.9, k), (1.0, k), (0.0, 9), (0.05, 9), (0.2, 9), (0.9, 9)):
            rng, covered, width, seen = np.random.default_rng(1), 0, 0.0, 0
            truth = np.zeros(k + 1)
            truth[0], truth[rest] = share, 1 - share
            for i in range(SIMULATIONS // 5):
                measured = np.stack([rng.multinomial(real if c < k else 1000, column) for c, column in enumerate(columns)])
                found = mixture.shares(rng.multinomial(500, truth @ columns), measured, seed=i)
                covered += bool(found.low[0] <= share <= found.high[0])
                width += float(found.high[0] - found.low[0])
                seen += found.surely_above(0, 0.02, claims=14)
            n = SIMULATIONS // 5
            mixed_with = "noise" if rest == k else "the class that it is confused with"
            rows.append({"real": real, "share": share, "among": mixed_with, "coverage": covered / n, "width": width / n, "seen": seen / n})
    return rows


if __name__ == "__main__":
    record: dict[str, Any] = {"clopper_pearson": clopper_pearson(), "bootstrap_mean": bootstrap_mean(), "mixture_share": shares()}
    bars = {
        "clopper_pearson_least_coverage": min(r["coverage"] for r in record["clopper_pearson"]),
        "clopper_pearson_mean_width_over_wilson": float(np.mean([r["width_over_wilson"] for r in record["clopper_pearson"]])),
        "bootstrap_mean_coverage": [
            min(r["coverage"] for r in record["bootstrap_mean"]),
            max(r["coverage"] for r in record["bootstrap_mean"]),
        ],
        "fano_weak_1.13_nats_10_classes": round(fano.weak(1.13, 10), 4),
        "fano_tight_1.13_nats_10_classes": round(fano.tight(1.13, 10), 4),
        "entropy_of_confident_logits": float(stats.entropy(np.eye(10)[:1])[0]),
    }
    record = {"commit": provenance.commit(), "versions": provenance.versions(), "seeds": [0, 1], "bars": bars, **record}
    Path(sys.argv[1]).write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(bars, indent=1))
