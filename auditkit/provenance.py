"""Where a number comes from: versions, commit, machine. Recorded beside results, never part of a digest."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("auditkit-unlearning", "torch", "triton", "diffusers", "open_clip_torch", "scikit-learn", "torch-fidelity", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions that can move a number."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine() -> str:
    """System, processor and Python, without the host's name."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def processor() -> str:
    """The processor's and the GPU's name, as they give it."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")][:1] or [platform.processor()]
    import torch

    return ", ".join([*names, *([torch.cuda.get_device_name()] if torch.cuda.is_available() else [])])


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def commit() -> str | None:
    """The commit of the checkout this code lies in, or None for an installed wheel."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head + ("+changes" if changed else "") or None
