"""What a command will cost, before it is paid: time from a short measurement of this model on this machine, disk, and power."""

import math
import time

import torch

from auditkit.models import Model
from auditkit.results import Record
from auditkit_evaluators import stats

ROWS = 128


class Estimate(Record):
    """Network evaluations of one image, seconds (of one process), bytes on disk, and the smallest rate that n images can exclude (upper
    limit of 0 of n)."""

    evaluations: int
    seconds: float
    disk_bytes: int
    n: int
    excludes: float


def estimate(network: Model, *, evaluations: int, images: int, n: int, models: int = 0) -> Estimate:
    """`evaluations` rows through the network (a row of a training step is three: forward 1, backward 2), `images` and `models` stored.

    Times three forward passes of 128 rows.
    """
    device = network.net.device
    x, t = torch.zeros(ROWS, *network.shape, device=device), torch.full((ROWS,), 500, device=device)
    labels = torch.zeros(ROWS, dtype=torch.long, device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(4):
            start = time.perf_counter()
            network.net(x, t, class_labels=labels).sample.sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - start)
    row = sorted(seconds[1:])[1] / ROWS
    held = network.parameters + (network.codec.parameters if network.codec else 0)
    return Estimate(
        evaluations=evaluations,
        seconds=round(row * evaluations, 1),
        disk_bytes=images * math.prod(network.image_shape) + models * 4 * held,
        n=n,
        excludes=stats.clopper_pearson(0, n)[1],
    )
