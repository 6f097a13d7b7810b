"""The noise test and the surrogates, measured: false alarms on noise, power on the ladder, and votes on pictures of nothing.

Digits always, with the six judges of the ensemble; CIFAR-10 too where a folder is given as the second argument or in
CIFAR10_PACKS, which holds the test images in `cifar10_test.webp.npz` (blob, offset, label, classes; WebP images) and ResNets in
`judges/`. Writes one JSON file.

    python benchmarks/noise_test.py docs/results/noise-test.json [FOLDER]
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.ndimage import gaussian_filter

from auditkit import data, pack_data, provenance
from auditkit_evaluators import ensemble, noise
from auditkit_evaluators.panel import KINDS, kinds, ladder
from auditkit_evaluators.surrogates import SURROGATES
from auditkit_evaluators.votes import Judge

SETS, SEED = 200, 1000  # null set s has seed SEED + s
NULL_KINDS = ("normal-1", "normal-.5", "sign", "uniform")
NULL_N = {"digits": (20, 100, 500), "cifar10": (20, 100)}
RUNGS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0)
N_REFERENCE, N = 800, 500
BLURS = (0.5, 1.0, 1.5, 2.0, 3.0)


def cifar10(folder: Path) -> data.Dataset:
    """The 10,000 test images in a seeded order, with auditkit's own splits."""
    images, label, classes = pack_data.read(folder / "cifar10_test.webp.npz")
    order = np.random.default_rng(0).permutation(len(label))
    images, labels = images[order], torch.from_numpy(label[order])
    split = data.split_by_pixels(images)
    return data.Dataset(name="cifar10", images=torch.from_numpy(images), labels=labels, classes=classes, split=split, sha256="")


def null(kind: str, n: int, images: torch.Tensor, reference: noise.Reference) -> dict[str, Any]:
    """How often fresh noise has a set p under .05 and .01, and how many of its images are flagged."""
    torch.set_num_threads(1)
    found = [noise.test(KINDS[kind](n, reference.shape, SEED + s, images), reference, seed=s) for s in range(SETS)]
    p = np.array([f.p for f in found])
    return {
        "kind": kind,
        "n": n,
        "sets": SETS,
        "p_under_.05": float((p < 0.05).mean()),
        "p_under_.01": float((p < 0.01).mean()),
        "smallest_p": float(p.min()),
        "flagged": float(np.mean([f.flagged.value for f in found])),
        "equivalent_low_is_0": float(np.mean([f.equivalent.low == 0 for f in found])),
        "equivalent_high_mean": float(np.mean([f.equivalent.high for f in found])),
    }


def found(images: torch.Tensor, reference: noise.Reference) -> dict[str, Any]:
    s = noise.test(images, reference)
    return {"n": s.n, "flagged": s.flagged.model_dump(), "p": s.p, "equivalent": s.equivalent.model_dump()}


def noise_test(dataset: data.Dataset) -> dict[str, Any]:
    real, held = dataset.part("model")[0][:N_REFERENCE], dataset.part("heldout")[0][:N]
    reference = noise.fit(real)
    rows = Parallel(n_jobs=2)(delayed(null)(kind, n, held, reference) for n in NULL_N[dataset.name] for kind in NULL_KINDS)
    return {
        "reference": len(real),
        "null": rows,
        "ladder": {str(a): found(ladder(held, a, SEED), reference) for a in RUNGS},
        "panel": {kind: found(KINDS[kind](N, dataset.shape, SEED, held), reference) for kind in kinds(dataset.shape[0])},
    }


def blurred(width: float, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    x = gaussian_filter(np.random.default_rng(seed).standard_normal((N, *shape)), width, axes=(2, 3), mode="reflect")
    x = 0.5 * (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    return data.to_uint8(torch.from_numpy(x))


def surrogates(dataset: data.Dataset, judges: tuple[Judge, ...]) -> dict[str, Any]:
    """Largest over judges and classes of rate(set) - rate(surrogate), beside that of two sets of one kind; and what real images keep."""
    classes = len(dataset.classes)
    held, labels = dataset.part("heldout")

    def rates(images: torch.Tensor) -> np.ndarray:
        return np.stack([np.bincount(j.judge(images).probs.argmax(1), minlength=classes) / len(images) for j in judges])

    makers: dict[str, Callable[[int], torch.Tensor]] = {
        kind: lambda seed, kind=kind: KINDS[kind](N, dataset.shape, seed, held) for kind in kinds(dataset.shape[0])
    }
    makers |= {f"blur {w:g}": lambda seed, w=w: blurred(w * dataset.shape[1] / 8, dataset.shape, seed) for w in BLURS}
    table = {}
    for kind, make in makers.items():
        images = make(SEED)
        ours, other = rates(images), rates(make(SEED + 1))
        theirs = {name: rates(surrogate(images, SEED)) for name, surrogate in SURROGATES.items()}
        row = {name: float((ours - r).max()) for name, r in theirs.items()}
        table[kind] = {
            **row,
            "largest of all": float((ours - np.max(list(theirs.values()), axis=0)).max()),
            "chance": float((ours - other).max()),
        }
    real = {}
    for k, name in enumerate(dataset.classes):
        images = held[labels == k]
        theirs = {s: rates(make(images, SEED))[:, k] for s, make in SURROGATES.items()}
        ours = rates(images)[:, k]
        over = ours - np.max(list(theirs.values()), axis=0)
        real[name] = {"n": len(images), "judges": [j.name for j in judges], "rate": ours.tolist(), "excess": over.tolist()}
    return {"nothing": table, "real": real}


def main(out: Path, folder: Path | None) -> None:
    torch.set_num_threads(1)
    sets = [data.load("digits"), *([cifar10(folder)] if folder else [])]
    panels = [ensemble.build(sets[0]), *([ensemble.build(sets[1], weights=folder / "judges", only=())] if folder else [])]
    record = {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "seed": SEED,
        "n": N,
        "level": noise.LEVEL,
        "noise_test": {s.name: noise_test(s) for s in sets},
        "surrogates": {s.name: surrogates(s, judges) for s, judges in zip(sets, panels, strict=True)},
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    for name, r in record["noise_test"].items():
        for row in r["null"]:
            print(name, row)
        for a, row in {**r["ladder"], **r["panel"]}.items():
            print(name, a, row["flagged"]["value"], row["p"], *(row["equivalent"][k] for k in ("value", "low", "high")))
    for name, r in record["surrogates"].items():
        for kind, row in r["nothing"].items():
            print(name, kind, {k: round(v, 3) for k, v in row.items()})
        for label, row in r["real"].items():
            print(name, label, np.round(row["rate"], 2), np.round(row["excess"], 2))


if __name__ == "__main__":
    folder = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("CIFAR10_PACKS")
    main(Path(sys.argv[1]), Path(folder) if folder else None)
