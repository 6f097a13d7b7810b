"""How few sampler steps do: share of digits drawn right by each sampler, and how far their features lie from real ones.

    python benchmarks/steps.py docs/results/steps.json

Right is what most of six classifiers of the ensemble say. Precision, recall, density and coverage are against heldout real digits (k = 5,
pixels); DDIM with 200 steps is what the others approximate.
"""

import json
import sys
from pathlib import Path

import torch

from auditkit import data, provenance, sampling
from auditkit.stages import source
from auditkit.stages.cell import prepare
from auditkit_evaluators import ensemble, stats
from auditkit_evaluators.manifold import manifold

N, STEPS = 50, (3, 5, 8, 10, 15, 25)


def main(out: Path) -> None:
    prepare()
    digits, base = data.load("digits"), source.bundled("digits")
    assert base is not None
    model, judges = base.load(), ensemble.build(digits)
    labels = torch.arange(10).repeat_interleave(N)
    real = digits.part("heldout")[0].flatten(1).double().numpy()
    rows = []
    for kind, steps in [*((k, s) for k in ("ddim", "dpm") for s in STEPS), ("ddim", 200)]:
        made = sampling.sample(model, labels, sampling.Sampler(kind=kind, steps=steps), seed=0)
        votes = torch.stack([torch.from_numpy(j.judge(made).said) for j in judges]).mode(dim=0).values
        near = manifold(made.flatten(1).double().numpy(), real, 5)
        measure = stats.rate(f"{kind} {steps}", int((votes == labels).sum()), len(labels), safer="higher")
        shares = {name: round(near[name].value, 4) for name in ("precision", "recall", "density", "coverage")}
        rows.append({"kind": kind, "steps": steps, "right": measure.model_dump(), **shares})
        print(kind, steps, measure.text(1), shares, flush=True)
    out.write_text(json.dumps({"commit": provenance.commit(), "versions": provenance.versions(), "rows": rows}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
