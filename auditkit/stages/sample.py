"""The stage that samples a model: images of chosen classes, and on request its matched noise from the same seeds."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from auditkit import data, files, pictures, precision, rundir, sampling, training
from auditkit.errors import UserError
from auditkit.stack import Layout, Stack
from auditkit.stages.cell import SILENT, Console, compute
from auditkit.stages.source import Source
from auditkit.stages.train import check_fits

IMAGES, GRID = "images.safetensors", "grid.png"
MAX_IMAGES = 10**6
BATCH = 250
SHOWN = 64  # images of a class in the picture, at most
Pieces = list[tuple[int, int, int]]  # label, first, n


def sample(
    model: Source,
    counts: dict[int, int],
    *,
    data_name: str = "digits",
    sampler: sampling.Sampler | None = None,
    seed: int = 0,
    noise_for: tuple[int, ...] = (),
    console: Console = SILENT,
) -> rundir.Run:
    """`counts[c]` images of each class c; for classes in `noise_for` also what the sampler gives when that class's branch is silent.

    Image i of a class depends on (seed, class, i) alone, so two models sampled with one seed are paired image by image.
    """
    dataset, how = data.load(data_name), sampler or sampling.Sampler()
    if not counts or min(counts.values()) < 1 or sum(counts.values()) > MAX_IMAGES:
        raise UserError(f"-n takes 1 to {MAX_IMAGES} images, got {sum(counts.values())}")
    dataset.check_labels(counts)
    request = sample_request(model, counts, data_name=data_name, sampler=how, seed=seed, noise_for=noise_for)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        network = model.load()
        check_fits(network, dataset, model.name)
        layout: Layout = {f"class/{c}": (n, *network.image_shape) for c, n in counts.items()}
        layout |= {f"noise/{c}/{form}": (counts[c], *network.image_shape) for c in noise_for for form in sampling.noise_forms(how)}
        stack = Stack(run.path / rundir.PART, layout)
        begun = state.step if state and stack.resumed else 0
        with console.track(f"sample {model.name}", sum(counts.values())) as advance:
            _draw(network, counts, how, seed, stack, begun, save, advance)
        for c in noise_for:
            for first in range(0, counts[c], BATCH):
                n = min(BATCH, counts[c] - first)
                for form, images in sampling.matched_noise(network, c, n, how, seed=key_of(seed, c), first=first).items():
                    stack.put(f"noise/{c}/{form}", first, images)
        shown = {dataset.classes[c]: torch.from_numpy(stack.first(f"class/{c}", SHOWN)) for c in counts}
        run.write(GRID, pictures.grid(_rows(shown)))
        stack.finish(run.path / IMAGES)  # last: until then a killed job finds its images again
        return {"passes": how.passes, "model": model.name, "precision": precision.name(network.net)}

    return compute(request, work, console)


def sample_request(
    model: Source,
    counts: dict[int, int],
    *,
    data_name: str = "digits",
    sampler: sampling.Sampler | None = None,
    seed: int = 0,
    noise_for: tuple[int, ...] = (),
) -> rundir.Request:
    """What decides a sample run, and so its name."""
    how = sampler or sampling.Sampler()
    return rundir.Request(
        stage="sample",
        method=how.kind,
        role=model.role,
        classes=tuple(counts) if len(counts) <= 2 else (),
        seed=seed,
        params={"sampler": asdict(how), "counts": [[c, n] for c, n in counts.items()], "noise_for": list(noise_for)},
        parents={"model": model.digest},
        data=data.load(data_name).sha256,
    )


def _rows(images: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The picture's rows: 16 images of each class, or 64 of the only one in four rows."""
    if len(images) > 1:
        return [(name, found[:16]) for name, found in images.items()]
    [(name, found)] = images.items()
    return [(name if k == 0 else "", part) for k, part in enumerate(torch.split(found[:64], 16))]


def key_of(seed: int, label: int) -> int:
    """One Philox key for each (seed, class), so that image i of a class never depends on how many others were asked for."""
    return seed + (label << 32)


def _draw(
    network: Any, counts: dict[int, int], sampler: sampling.Sampler, seed: int, stack: Stack, begun: int, save: training.Save, advance: Any
) -> None:
    """Everything but the first `begun` images, which lie in `stack` already."""
    have = _shared_out(counts, begun)
    saved, total = time.monotonic(), begun

    def begin(batch: Pieces) -> Callable[[], tuple[Pieces, list[Tensor]]]:
        if sampler.noisy:
            [(label, first, n)] = batch
            found = sampling.sample(network, torch.full((n,), label), sampler, seed=key_of(seed, label), first=first)
            return lambda: (batch, [found])
        finish = sampling.begin_several(network, [(label, key_of(seed, label), first, n) for label, first, n in batch], sampler)
        return lambda: (batch, finish())

    for batch, found in sampling.one_ahead(map(begin, _batches(counts, have, alone=sampler.noisy)), network):
        for (label, first, n), images in zip(batch, found, strict=True):
            stack.put(f"class/{label}", first, images)
            total += n
        advance(total)
        if time.monotonic() - saved > training.CHECKPOINT_SECONDS:
            stack.flush()
            save(training.State(total, {}))
            saved = time.monotonic()


def _shared_out(counts: dict[int, int], done: int) -> dict[int, int]:
    """How many of each class there are when `done` images were drawn, class after class."""
    have = {}
    for label, wanted in counts.items():
        have[label] = min(wanted, done)
        done -= have[label]
    return have


def _batches(counts: dict[int, int], have: dict[int, int], *, alone: bool) -> Iterator[Pieces]:
    """What is missing, as (label, first, n), in batches of up to BATCH images; with `alone`, no two classes in one batch."""
    batch: Pieces = []
    room = BATCH
    for label, wanted in counts.items():
        first = have[label]
        while first < wanted:
            n = min(room, wanted - first)
            batch.append((label, first, n))
            first, room = first + n, room - n
            if alone or not room:
                yield batch
                batch, room = [], BATCH
    if batch:
        yield batch


def images(run: rundir.Run) -> dict[str, Tensor]:
    """What a sample or attack run holds: "class/<c>", "noise/<c>/<form>" or "<setting>/<step>" to uint8 (N, C, H, W)."""
    tensors: dict[str, Tensor] = load_file(files.check_safetensors(run.file(IMAGES)))
    return tensors
