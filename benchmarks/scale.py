"""How time and memory grow: with batch, images, reference, classes and network; and what bigger audits would then cost.

    python benchmarks/scale.py --out docs/results/scale.json --picture docs/images/scale.png --packs PACK10 PACK100

The packs hold the same number of images of the same size in 10 and in 100 classes (CIFAR's test images); without them cards are not
measured. Each row is measured in a process of its own; docs/scale.md reads the file, extrapolates and says how.
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from auditkit import data, diffusion, dit, models, precision, provenance, sampling, training
from auditkit.bench import judges
from auditkit.bench.nets import work
from auditkit.stages.cell import prepare
from auditkit.stages.plan import plan_audit
from auditkit_evaluators import cards, ensemble

BATCHES = {"digits": (1, 10, 50, 100, 250, 500, 1000), "cifar10": (1, 2, 4, 8, 16)}
STEPS = (2, 4, 8, 16)
IMAGES = (250, 1000, 4000)
REFERENCES = (1_000, 3_000, 10_000)
CLASSES = (10, 100, 1000)
CARDS = ("logistic", "knn")
NETWORKS = {"digits": (1, 8), "small": (3, 32), "cifar10": (3, 32), "stl10": (3, 64)}
# DiT-XL/2 on 32 x 32 latents of 256 x 256 pixels: https://huggingface.co/facebook/DiT-XL-2-256, transformer/config.json
DIT_XL = {"sample_size": 32, "in_channels": 4, "out_channels": 8, "num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72}


def evaluation(size: str, rows: int) -> dict[str, Any]:
    """One network evaluation of one image, in batches of `rows`: seconds, median of five; and what the batch adds to memory."""
    model = work(size).model
    eps = sampling.network(model)
    x, t, labels = torch.randn(rows, *model.shape), torch.full((rows,), 500), torch.zeros(rows, dtype=torch.long)
    with torch.no_grad():
        return _timed(lambda: eps(x, t, labels), rows)


def step(rows: int) -> dict[str, Any]:
    """One row of a SAFEMax step of the 38.6 M-parameter UNet, forward and backward, the moments of Adam not counted."""
    made = work("cifar10")
    net, batch = precision.laid_out(made.model.net).train(), made.batches(0)
    picked = training.Batch(*(x[:: len(batch.x0) // rows][:rows] for x in (batch.x0, batch.labels, batch.forget, batch.weight)))
    loss, abar = training.Loss(made.psi), diffusion.abar()
    return _timed(lambda: training.denoise_step(net, picked, loss, abar, seed=0, step=0), rows)


def images(n: int) -> dict[str, Any]:
    """One image of n sampled digits, 25 steps of two branches."""
    model = work("digits").model
    sampling.sample(model, torch.zeros(50, dtype=torch.long), sampling.Sampler(), seed=1)
    return _timed(lambda: sampling.sample(model, torch.zeros(n, dtype=torch.long), sampling.Sampler(), seed=0), n, repeats=1)


def reference(n: int) -> dict[str, Any]:
    """Five nearest neighbours of n features (512 numbers) among n others."""
    seconds, added, _ = judges.measured("auditkit", n, 1)
    return {"seconds": seconds[0], "added_bytes": added}


def network(classes: int) -> dict[str, Any]:
    """One evaluation of a digits network with so many classes, in batches of 100."""
    eps = sampling.network(models.build((1, 8, 8), classes, seed=0))
    x, t, labels = torch.randn(100, 1, 8, 8), torch.full((100,), 500), torch.zeros(100, dtype=torch.long)
    with torch.no_grad():
        return _timed(lambda: eps(x, t, labels), 100)


def card(pack: str, judge: str) -> dict[str, Any]:
    """One judge fitted and its card measured."""
    dataset = data.load(pack)
    start = time.perf_counter()
    cards.measure(ensemble.build(dataset, only=(judge,))[0], dataset)
    return {"classes": len(dataset.classes), "images": len(dataset.images), "seconds": time.perf_counter() - start}


def operations() -> dict[str, int]:
    """Floating-point operations of one evaluation of one image, two for a multiply and add; counted on tensors without memory."""
    found = {}
    for name in (*NETWORKS, "DiT-XL/2"):
        with torch.device("meta"):
            if name in NETWORKS:
                channels, side = NETWORKS[name]
                net = models.build((channels, side, side), 10, seed=0, architecture=models.ARCHITECTURES[name]).net
            else:
                channels, side, net = 4, 32, dit.DiT(**DIT_XL)
            x, label = torch.zeros(1, channels, side, side), torch.zeros(1, dtype=torch.long)
            net.to("meta")
            with FlopCounterMode(display=False) as counter:
                net(x, torch.zeros(1, dtype=torch.long), class_labels=label)
        found[name] = counter.get_total_flops()
    return found


def _timed(call: Any, rows: int, repeats: int = 5) -> dict[str, Any]:
    """Seconds for one of `rows`, the median after one call that is not counted; bytes that the calls added to the largest resident set."""
    before, taken = judges.peak(reset=True), []
    for _ in range(repeats + (repeats > 1)):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    after = judges.peak()
    counted = sorted(taken[1:] or taken)
    return {
        "seconds": counted[len(counted) // 2] / rows,
        "added_bytes": after - before if before is not None and after is not None else None,
    }


def alone(function: Any, *arguments: Any) -> Any:
    """`function(*arguments)` in a fresh process of one thread."""
    with multiprocessing.get_context("spawn").Pool(1, initializer=prepare) as pool:
        found = pool.apply(function, arguments)
    print(function.__name__, *arguments, found, flush=True)
    return found


def picture(rows: dict[str, Any], out: str) -> None:
    """Time and memory against batch, images and reference."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), constrained_layout=True)
    networks = {f"{size}, evaluation": line for size, line in rows["batch"].items()} | {"cifar10, training row": rows["step"]}
    panels = [
        ("rows in a batch", "ms a row", 1e3, "log", networks),
        ("images sampled", "ms an image", 1e3, "linear", {"digits, 25 guided steps": rows["images"]}),
        ("features, and as many in the reference", "seconds", 1, "log", {"5 nearest of 512 numbers": rows["reference"]}),
    ]
    for (upper, lower), (xlabel, ylabel, per, scale, lines) in zip(axes.T, panels, strict=True):
        for name, line in lines.items():
            x = [int(n) for n in line]
            upper.plot(x, [per * line[str(n)]["seconds"] for n in x], marker="o", label=name)
            lower.plot(x, [line[str(n)]["added_bytes"] / 2**20 for n in x], marker="o", label=name)
        upper.set(xscale=scale, yscale=scale, ylabel=ylabel)
        lower.set(xscale=scale, yscale=scale, xlabel=xlabel, ylabel="MiB added")
        upper.legend(fontsize=8)
        if scale == "linear":
            upper.set_ylim(0, 1.2 * upper.get_ylim()[1])
            lower.set_ylim(0, 1.2 * lower.get_ylim()[1])
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--picture", required=True)
    parser.add_argument("--packs", nargs="*", default=[])
    given = parser.parse_args()
    prepare()
    audit = plan_audit((2,), model=None, original=None, data_name="digits", method="safemax", params={})
    rows: dict[str, Any] = {
        "operations": operations(),
        "audit_evaluations": audit.evaluations,
        "batch": {size: {str(n): alone(evaluation, size, n) for n in batches} for size, batches in BATCHES.items()},
        "step": {str(n): alone(step, n) for n in STEPS},
        "images": {str(n): alone(images, n) for n in IMAGES},
        "reference": {str(n): alone(reference, n) for n in REFERENCES},
        "classes": {str(k): alone(network, k) for k in CLASSES},
        "cards": {j: [alone(card, f"pack:{pack}", j) for pack in given.packs] for j in CARDS},
    }
    about = {"commit": provenance.commit(), "machine": provenance.machine(), "processor": provenance.processor()}
    record = {**about, "versions": provenance.versions(), "threads": 1, "half": precision.half(work("cifar10").model.net), **rows}
    Path(given.out).write_text(json.dumps(record, indent=1) + "\n")
    picture(rows, given.picture)


if __name__ == "__main__":
    main()
