"""The verdict's bars: images whose truth is known, every class, five seeds, by the rule of docs/verdict.md.

    python benchmarks/verdicts.py digits docs/results/verdicts-digits.json
    python benchmarks/verdicts.py cifar10 docs/results/verdicts-cifar10.json FOLDER-OF-PACKS
    python benchmarks/verdicts.py safemax docs/results/verdicts-safemax.json

Each seed writes a .part file beside the result; delete them when it is done.

Real images are those of the `model` split, which no judge and no card has seen. The CIFAR-10 part takes the test images as a
data set of its own, since the networks were trained on the others, with ResNet-20, 32 and 56 beside the ensemble.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from auditkit import data, pack_data, provenance, sampling
from auditkit.stages import cell, judging, source
from auditkit.stages.cell import Console
from auditkit.stages.sample import key_of
from auditkit.unlearn import safemax
from auditkit_evaluators import matched, panel
from auditkit_evaluators.votes import Judge, Votes

SEEDS = (0, 1, 2, 3, 4)
NOISE = ("histogram", "normal-1", "normal-.5", "normal-.1", "sign")
NEVER_PRESENT = ("constant", "blurred", "coloured")
UNSEEN = ("gratings", "rectangles", "negatives")  # in no card; fixed in docs/verdict.md before the rule was run
TRUTH = dict.fromkeys(NOISE, "NO CLASS") | {"real": "PRESENT", "mixture": "PRESENT", "ladder .75": "PRESENT", "other": "OTHER CLASS"}
FRESH = 1000  # added to the seed: no image of the panel is one of a card


def gratings(n: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Stripes of random direction, wavelength (2 pixels to the image's side), phase and contrast."""
    rng, (channels, height, width) = np.random.default_rng([seed, 1]), shape
    y, x = np.mgrid[:height, :width]
    made = []
    for _ in range(n):
        angle, wavelength = rng.uniform(0, np.pi), 2 * (min(height, width) / 2) ** rng.random()
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + rng.uniform(0, 2 * np.pi))
        made.append(rng.uniform(0.3, 1, (channels, 1, 1)) * wave[None])
    return data.to_uint8(torch.from_numpy(np.stack(made)))


def rectangles(n: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Overlapping boxes of random place, size and colour until nothing of the ground is left to chance: dead leaves with corners."""
    rng, (channels, height, width) = np.random.default_rng([seed, 2]), shape
    made = np.zeros((n, channels, height, width))
    for image in made:
        for _ in range(12):
            top, left = rng.integers(-height // 2, height), rng.integers(-width // 2, width)
            h, w = rng.integers(2, height), rng.integers(2, width)
            image[:, max(top, 0) : max(top + h, 0), max(left, 0) : max(left + w, 0)] = rng.uniform(-1, 1, (channels, 1, 1))
    return data.to_uint8(torch.from_numpy(made))


def sets(dataset: data.Dataset, asked: int, n: int, seed: int) -> dict[str, Tensor]:
    """The panel for one class: name to uint8 images."""
    images, labels = dataset.part("model")
    rng = np.random.default_rng([seed, asked])
    classes, fresh = len(dataset.classes), seed + FRESH

    def some(of: int, most: int) -> Tensor:
        found = np.flatnonzero((labels == of).numpy())
        return images[rng.permutation(found)[: min(most, int(0.9 * len(found)))]]

    real = some(asked, n)
    make = {kind: panel.KINDS[kind](n, dataset.shape, fresh, images) for kind in (*NOISE[1:], *NEVER_PRESENT)}
    few = real[: n // 5]
    return {
        "histogram": matched.matched(images, n, fresh),
        **make,
        "real": real,
        "mixture": torch.cat([few, make["normal-1"][: 4 * len(few)]]),
        "ladder .75": panel.ladder(real, 0.75, fresh),
        "other": some((asked + 1 + seed) % classes, n),
        "gratings": gratings(n, dataset.shape, fresh),
        "rectangles": rectangles(n, dataset.shape, fresh),
        "negatives": 255 - real,
    }


def remembering(judge: Judge) -> Judge:
    """The same judge; images that it has judged before, it does not judge again (noise is asked about as every class)."""
    known: dict[str, Votes] = {}

    def answer(images: Tensor) -> Votes:
        key = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        if key not in known:
            known[key] = judge.judge(images)
        return known[key]

    return Judge(**{**vars(judge), "judge": answer})


def one_seed(folder: Path | None, seed: int, part: Path) -> list[dict[str, Any]]:
    """Every class and set of one seed of judges and images; what `part` holds from an earlier try is not judged again."""
    cell.prepare()
    dataset, n = (data.load("digits"), 500) if folder is None else (cifar10(folder), 150)
    judges, weights = (("ensemble", "clip"), None) if folder is None else (("ensemble",), folder / "judges")
    console = Console()
    built = judging.build(judges, dataset, clip_model=None, weights=weights, seed=seed, console=console)
    built = judging.Panel(**{**vars(built), "judges": tuple(map(remembering, built.judges))})
    rows = [json.loads(line) for line in part.read_text().splitlines()] if part.exists() else []
    done = {r["class"] for r in rows}
    for asked in (k for k in range(len(dataset.classes)) if k not in done):
        found = []
        for name, images in sets(dataset, asked, n, seed).items():
            heard = judging.hear(built, images, asked, name=name, role="subject", digest="")
            found.append(row(heard, name, asked, seed))
        with part.open("a") as file:
            file.write("".join(json.dumps(r) + "\n" for r in found))
        rows += found
        print(f"seed {seed} class {asked}", file=sys.stderr, flush=True)
    return rows


def row(heard: Any, name: str, asked: int, seed: int) -> dict[str, Any]:
    """What the page needs of one verdict."""
    a = heard.structure.equivalent
    return {
        "set": name,
        "class": asked,
        "seed": seed,
        "n": heard.verdict.n,
        "verdict": heard.verdict.word,
        "why": list(heard.verdict.why[-1:]),
        "equivalent": [a.value, a.low, a.high],
        "flagged": heard.structure.flagged.value,
        "judges": {
            e.judge: {
                "ua": e.reading.ua.value,
                "noise_ua": max(e.controls.values(), key=lambda c: c.votes[asked] / max(c.n, 1)).ua.value,
                "excess": [e.claim.value, e.claim.low, e.claim.high],
                "share": [e.share.value, e.share.low, e.share.high],
                "seen": {str(k): how for k, how in e.seen.items()},
                "explained": e.excess.explained_by_noise,
                "informative": e.informative,
                "able": list(e.able),
                "lod": e.lod.value,
            }
            for e in heard.evidence
        },
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Verdicts by set, and the bars."""
    table = {name: dict(Counter(r["verdict"] for r in rows if r["set"] == name)) for name in dict.fromkeys(r["set"] for r in rows)}
    counted = [r for r in rows if r["set"] in TRUTH]
    wrong = [r for r in counted if r["verdict"] not in (TRUTH[r["set"]], "UNDECIDED")]
    covered = [s["share"][1] <= 0.2 <= s["share"][2] for r in rows if r["set"] == "mixture" for s in r["judges"].values()]
    informative = [
        s["share"][1] <= 0.2 <= s["share"][2] for r in rows if r["set"] == "mixture" for s in r["judges"].values() if s["informative"]
    ]
    return {
        "verdicts": table,
        "counted": len(counted),
        "wrong": [[r["set"], r["class"], r["seed"], r["verdict"]] for r in wrong],
        "undecided": [[r["set"], r["class"], r["seed"], r["why"][-1]] for r in counted if r["verdict"] == "UNDECIDED"],
        "present_never": sum(r["verdict"] == "PRESENT" for r in rows if r["set"] in NEVER_PRESENT),
        "mixture_covers": [sum(covered), len(covered)],
        "mixture_covers_informative": [sum(informative), len(informative)],
    }


def rounded(value: Any) -> Any:
    """Four digits are more than the intervals hold, and a third of the file."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def cifar10(folder: Path) -> data.Dataset:
    """The CIFAR-10 test images as a data set, from a pack of WebP files (`blob`, `offset`, `label`, `classes`)."""
    images, labels, names = pack_data.read(folder / "cifar10_test.webp.npz")  # in its own order, in which the results were measured
    return data.Dataset(
        name="cifar10-test",
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=names,
        split=data.split_by_pixels(images),
        sha256=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )


def unlearned(forget: int, seed: int, n: int = 500) -> dict[str, Any]:
    """The verdict on what SAFEMax's model gives when asked for the class that it forgot."""
    cell.prepare()
    digits, base = data.load("digits"), source.bundled("digits").load()
    built = judging.build(("ensemble", "clip"), digits, clip_model=None, weights=None, seed=0, console=Console())
    model = safemax.run(base, digits, (forget,), safemax.Params(), seed=seed)
    images = sampling.sample(model, torch.full((n,), forget), sampling.Sampler(), seed=key_of(7, forget))
    made = sampling.matched_noise(model, forget, n, sampling.Sampler(), seed=key_of(7, forget))
    print(f"class {forget} seed {seed}", file=sys.stderr, flush=True)
    return row(judging.hear(built, images, forget, name="safemax", role="subject", digest="", made=made), "safemax", forget, seed)


if __name__ == "__main__":
    what, out, *rest = sys.argv[1:]
    # Forked workers: those that pickle functions stumble over torch.classes wherever a function has a name "classes".
    if what == "safemax":
        found = Parallel(n_jobs=2, backend="multiprocessing")(delayed(unlearned)(k, seed) for k in range(10) for seed in SEEDS[:3])
        judged = [s for r in found for s in r["judges"].values()]
        bars: dict[str, Any] = {
            "verdicts": dict(Counter(r["verdict"] for r in found)),
            "ua_below_95": sum(s["ua"] < 0.95 for s in judged),
            "of_these_excess_upper_below_5_points": sum(s["ua"] < 0.95 and s["excess"][2] <= 0.05 for s in judged),
            "largest_excess_upper": max(s["excess"][2] for s in judged),
            "judges_x_models": len(judged),
            "largest_equivalent_upper": max(r["equivalent"][2] for r in found),
        }
    else:
        folder = Path(rest[0]) if what == "cifar10" else None
        parts = Parallel(n_jobs=2, backend="multiprocessing")(delayed(one_seed)(folder, seed, Path(f"{out}.{seed}.part")) for seed in SEEDS)
        found = [r for part in parts for r in part]
        bars = summary(found)
    record = {"what": what, "commit": provenance.commit(), "versions": provenance.versions(), "bars": bars, "rows": rounded(found)}
    Path(out).write_text(json.dumps(record, indent=None, separators=(",", ":")) + "\n")
    print(json.dumps(bars, indent=1))
