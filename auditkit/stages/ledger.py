"""What making a model cost: seconds by phase, network evaluations by phase, and the memory that it took at its peak.

It stands beside the result and enters no digest: another machine spends other seconds on the same weights.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def evaluations(module: Any, params: Any, *, forget_images: int, classes: int) -> dict[str, int]:
    """Rows through the network by phase, a forward pass 1 and a backward pass 2; nothing for a method that trains nothing."""
    if hasattr(module, "costs"):
        found: dict[str, int] = module.costs(params, forget_images, classes)
        return {phase: rows for phase, rows in found.items() if rows}
    if not hasattr(params, "steps"):
        return {}
    kinds = 1 if module.__name__.endswith(".retrain") else 2  # forget and retain rows
    return {"training": 3 * kinds * params.steps * params.batch}


class Phases:
    """Seconds before the first training step (masks, Fisher, replay) and from there on."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first: float | None = None

    def step(self, tell: Callable[[int], None]) -> Callable[[int, float], None]:
        """A training report that notes when the first step was done, and passes the number of steps on."""

        def report(step: int, loss: float) -> None:
            if self.first is None:
                self.first = time.perf_counter()
            tell(step)

        return report

    @property
    def seconds(self) -> dict[str, float]:
        end = time.perf_counter()
        first = end if self.first is None else self.first
        return {"preparation": round(first - self.start, 3), "training": round(end - first, 3)}


@contextlib.contextmanager
def peak() -> Iterator[Callable[[], float | None]]:
    """Inside, the peak of memory in MB: what the GPU's allocator gave beyond what it held before; without a GPU all that this process held
    (on Linux; else None, not measured). A process keeps what it freed, so what a step takes on a CPU cannot be told from what lay there."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield lambda: round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
        return
    try:
        RESET.write_text("5")  # the high-water mark starts anew (proc(5))
    except OSError:
        yield lambda: None
        return
    yield lambda: round(_kilobytes("VmHWM") * 1024 / 1e6, 1)


def _kilobytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
