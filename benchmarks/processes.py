"""How many times the images of one process two processes draw in the same time: digits, 25 guided steps, one thread each.

python benchmarks/processes.py processes.json
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from auditkit import provenance, sampling
from auditkit.stages import source
from auditkit.stages.cell import prepare

IMAGES, ROUNDS = 500, 9


def worker(pipe: Connection) -> None:
    """Draws IMAGES digits for each message, and says when it has."""
    prepare()
    base = source.bundled("digits")
    assert base is not None
    model, labels = base.load(), torch.arange(IMAGES) % 10
    while pipe.recv():
        sampling.sample(model, labels, sampling.Sampler(), seed=0)
        pipe.send(True)


def timed(pipes: list[Connection]) -> float:
    """Seconds until every one of them has drawn its images."""
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send(True)
    for pipe in pipes:
        pipe.recv()
    return time.perf_counter() - started


def main(out: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=worker, args=(theirs,)) for _, theirs in ends]
    for process in processes:
        process.start()
    pipes = [ours for ours, _ in ends]
    timed(pipes)  # imports and warm-up
    rounds = [(timed(pipes[:1]), timed(pipes)) for _ in range(ROUNDS)]
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    one, two = np.array(rounds).T
    gain = 2 * one / two
    found = {"images": IMAGES, "one": one.tolist(), "two": two.tolist(), "gain": float(np.median(gain))}
    found |= {"percentiles 20, 80": np.percentile(gain, [20, 80]).tolist()}
    about = {"commit": provenance.commit(), "versions": provenance.versions(), "machine": provenance.machine()}
    out.write_text(json.dumps({**about, "processor": provenance.processor(), **found}, indent=1) + "\n")
    print(found["gain"], found["percentiles 20, 80"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
