"""The bars on forgetting: every class, three seeds, every judge.

For each (class, seed): SAFEMax with its defaults, 500 images of the class beside the two forms of noise that the sampler
makes from the same seeds, 200 images of each retained class beside the original's. Writes one JSON file.

    python benchmarks/forgetting.py docs/results/forgetting-digits.json
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

import auditkit_evaluators
from auditkit import data, provenance, sampling
from auditkit.stages import cell, source
from auditkit.stages.sample import key_of
from auditkit.unlearn import safemax
from auditkit_evaluators import examine, matched, stats
from auditkit_evaluators.examine import HISTOGRAM

N, RETAIN_N, SEEDS = 500, 200, (0, 1, 2)
SAMPLE_SEED = 7


def images(model: Any, label: int, n: int) -> torch.Tensor:
    return sampling.sample(model, torch.full((n,), label), sampling.Sampler(), seed=key_of(SAMPLE_SEED, label))


def original() -> dict[str, dict[int, Any]]:
    """Per judge and class: which of 200 images of the bundled original it judges right."""
    cell.prepare()
    digits, base = data.load("digits"), source.bundled("digits").load()
    panel = auditkit_evaluators.build(("ensemble", "clip"), digits)
    found = {k: images(base, k, RETAIN_N) for k in range(10)}
    return {j.name: {k: j.judge(found[k]).probs.argmax(1) == k for k in range(10)} for j in panel}


def one(forget: int, seed: int, base_hits: dict[str, dict[int, Any]]) -> dict[str, Any]:
    """Every judge's numbers for one unlearned model."""
    cell.prepare()
    digits, base = data.load("digits"), source.bundled("digits").load()
    panel = auditkit_evaluators.build(("ensemble", "clip"), digits)
    start = time.monotonic()
    model = safemax.run(base, digits, (forget,), safemax.Params(), seed=seed)
    seconds = time.monotonic() - start
    subject = images(model, forget, N)
    forms = sampling.matched_noise(model, forget, N, sampling.Sampler(), seed=key_of(SAMPLE_SEED, forget))
    forms = {HISTOGRAM: matched.matched(subject, 2000, seed)} | forms
    kept = [k for k in range(10) if k != forget]
    found = {k: images(model, k, RETAIN_N) for k in kept}
    rows = {}
    for judge in panel:
        reading = examine.read(judge, subject, forget, "subject", digits.classes)
        controls = {form: examine.read(judge, x, forget, form, digits.classes) for form, x in forms.items()}
        over = examine.excess(reading, controls)
        sink = controls[HISTOGRAM].votes.index(max(controls[HISTOGRAM].votes))
        ours = np.concatenate([judge.judge(found[k]).probs.argmax(1) == k for k in kept])
        theirs = np.concatenate([base_hits[judge.name][k] for k in kept])
        rows[judge.name] = {
            "rate": reading.hit.model_dump(),
            "entropy_nats": reading.entropy.model_dump(),
            "noise": {form: r.hit.model_dump() for form, r in controls.items()},
            "sink": sink,
            "sink_share": stats.rate("sink", controls[HISTOGRAM].votes[sink], controls[HISTOGRAM].n).model_dump(),
            "above_noise": over.model_dump(),
            "retained_change": stats.paired_difference("change", ours, theirs, safer="higher").model_dump(),
        }
    saturated = ((subject == 0) | (subject == 255)).float().mean().item()
    return {"class": forget, "seed": seed, "train_seconds": round(seconds, 1), "saturated": round(saturated, 4), "judges": rows}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The bars. Pooled over seeds: the mean of a (class, judge)'s changes, its lower distance that of independent seeds."""
    above = [v["above_noise"]["difference"]["high"] for r in rows for v in r["judges"].values()]
    change = [v["retained_change"] for r in rows for v in r["judges"].values()]
    pooled = []
    for judge in rows[0]["judges"]:
        for forget in range(10):
            seeds = [r["judges"][judge]["retained_change"] for r in rows if r["class"] == forget]
            mean = sum(m["value"] for m in seeds) / len(seeds)
            pooled.append(mean - math.sqrt(sum((m["value"] - m["low"]) ** 2 for m in seeds)) / len(seeds))
    explained = {(j, r["class"]) for r in rows for j, v in r["judges"].items() if v["above_noise"]["explained_by_noise"]}
    return {
        "cells": len(above),
        "above_noise_high_max": max(above),
        "above_noise_high_over_5_points": sum(a > 0.05 for a in above),
        "retained_change_low_min": min(m["low"] for m in change),
        "retained_change_low_under_minus_2_points": sum(m["low"] < -0.02 for m in change),
        "retained_change_pooled_over_seeds_low_min": min(pooled),
        "retained_change_pooled_over_seeds_low_under_minus_2_points": sum(low < -0.02 for low in pooled),
        "explained_by_noise": sorted(explained),
    }


def main(out: Path) -> None:
    base_hits = original()
    rows = Parallel(n_jobs=2, verbose=5)(delayed(one)(f, s, base_hits) for f in range(10) for s in SEEDS)
    summary = summarise(rows)
    record = {
        "commit": provenance.commit(),
        "n": N,
        "retain_n": RETAIN_N,
        "seeds": SEEDS,
        "versions": provenance.versions(),
        "summary": summary,
    }
    out.write_text(json.dumps({**record, "cells": rows}, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
