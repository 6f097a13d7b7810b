"""How a time is taken: arms in turn, so that a busy machine slows all of them, and the median with its 20th and 80th percentile."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Arm = Callable[[], object]


def as_torch_comes(arm: Arm) -> Arm:
    """The arm with cuDNN's own defaults instead of ours (precision.py): others' loops do not pay for our digits and digests."""

    def call() -> object:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True):
            return arm()

    return call


def alternate(arms: dict[str, Arm], *, repeats: int, warmup: int = 1) -> dict[str, dict[str, Any]]:
    """Wall seconds of each arm over `repeats` rounds; on a GPU also its peak memory. An arm that raises is reported with its reason."""
    failed: dict[str, str] = {}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    peak: dict[str, int] = {}
    for turn in range(warmup + repeats):
        for name, arm in arms.items():
            if name in failed:
                continue
            try:
                taken, memory = once(arm)
            except Exception as error:  # an arm that cannot run here (no compiler, no memory) must not hide the others
                failed[name] = f"not measured: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            if turn >= warmup:
                seconds[name].append(taken)
                peak[name] = max(peak.get(name, 0), memory)
    return {name: {"failed": failed[name]} if name in failed else summary(seconds[name], peak[name]) for name in arms}


def once(arm: Arm) -> tuple[float, int]:
    """Seconds and peak bytes on the GPU (0 without one) of one call, the device waited for at both ends."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    arm()
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() if gpu else 0


def summary(seconds: list[float], peak: int) -> dict[str, Any]:
    """Median, 20th and 80th percentile in seconds, and how many times were taken."""
    ordered = sorted(seconds)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.2, 0.8))
    return {"seconds": statistics.median(ordered), "p20": low, "p80": high, "n": len(ordered), **({"peak_bytes": peak} if peak else {})}


def ratios(rows: dict[str, dict[str, Any]], ours: str) -> dict[str, float]:
    """How many times as long as `ours` every other arm took."""
    mine = rows[ours].get("seconds")
    return {name: row["seconds"] / mine for name, row in rows.items() if mine and name != ours and "seconds" in row}


def close(name: str, found: torch.Tensor, wanted: torch.Tensor, most: float) -> str | None:
    """Why an arm's result is not `wanted`, or None: the largest difference over the largest value, at most `most`."""
    scale = float(wanted.abs().max()) or 1.0
    off = float((found.float() - wanted.float()).abs().max()) / scale
    return None if off <= most else f"{name} differs by {off:.1e} of the largest value, {most:.0e} is allowed"  # NaN differs too
