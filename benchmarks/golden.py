"""Whether two checkouts give the same runs: every name, every sealed file and every digest of an audit, a comparison and a suite's plan.

python benchmarks/golden.py OLD NEW [--quick]

Both run in this interpreter's environment, each in a process and a folder of runs of its own. Exit 0: all is equal; 1: something
differs, stage by stage; 2: a command failed. `--quick` has small budgets.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

SOURCES = (".", "kernels", "attacks", "evaluators")
SMALL = ["--judges", "ensemble", "-n", "50", "--retain-n", "10"]
COMPARE = ["compare", "--class", "2", "--method", "safemax:steps=20", "--method", "random-label:steps=20", *SMALL]
COMPARE += [word for setting in ("steps=10", "images=20", "n=20") for word in ("--set", setting)]
SMALLER = ("unlearn.steps=20", "relearn.steps=10", "relearn.n=20", "relearn.lrs=5e-4", "finetune.steps=10", "finetune.n=20")
AUDITS = {
    False: ["audit", "--class", "2"],
    True: ["audit", "--class", "2", *SMALL[:2], *(w for s in (*SMALLER, "evaluate.n=50", "evaluate.retain_n=10") for w in ("--set", s))],
}
PLAN = ["attack", "quick", "--dry-run"]
MEASURED = ("seconds",)  # of a plan: how fast this machine is
SHOWN = 4  # differences of one stage that are printed one by one
Run = dict[str, Any]


def run(checkout: Path, folder: Path, *, quick: bool) -> tuple[dict[str, Run], dict[str, Any]]:
    """The finished runs by name, and the plan of a suite. Raises RuntimeError for a command that failed or ran other code."""
    path = os.pathsep.join(str((checkout / source).resolve()) for source in SOURCES)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AUDITKIT_")}
    environment |= {"PYTHONPATH": path, "AUDITKIT_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def call(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{checkout}: {' '.join(words)} gave {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    packages = ("auditkit", "auditkit_kernels", "auditkit_attacks", "auditkit_evaluators")
    for package in packages:
        found = Path(call("-c", f"import {package}; print({package}.__file__)").strip())
        if not found.is_relative_to(checkout.resolve()):
            raise RuntimeError(f"{checkout} has no {package} of its own: {found} would run")
    for command in (AUDITS[quick], COMPARE):
        print(f"{checkout}: auditkit {' '.join(command)}", file=sys.stderr, flush=True)
        call("-m", "auditkit", *command, "--json")
    plan = json.loads(call("-m", "auditkit", *PLAN, "--json"))
    return finished(folder / "runs"), {k: v for k, v in plan.items() if k not in MEASURED}


def finished(folder: Path) -> dict[str, Run]:
    """request, files and digest of every finished run."""
    runs = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        request = json.loads((path.parent / "run.json").read_text())
        runs[path.parent.name] = {"request": request, "files": result["files"], "digest": result["digest"]}
    return runs


def asked(found: Run) -> str:
    """Its request without the parents' digests."""
    return json.dumps({k: v for k, v in found["request"].items() if k != "parents"}, sort_keys=True)


def pairs(old: dict[str, Run], new: dict[str, Run]) -> list[tuple[str | None, str | None]]:
    """Names that belong together: the same one, else the same request of other parents; None where a side has none."""
    paired: list[tuple[str | None, str | None]] = [(name, name) for name in old if name in new]
    rest = [[name for name in side if not (name in old and name in new)] for side in (old, new)]
    for name in rest[0]:
        match = next((other for other in rest[1] if asked(new[other]) == asked(old[name])), None)
        paired.append((name, match))
        if match is not None:
            rest[1].remove(match)
    return paired + [(None, name) for name in rest[1]]


def differences(old: dict[str, Run], new: dict[str, Run]) -> dict[str, list[str]]:
    """What differs, by stage; a stage with an empty list is equal."""
    found: dict[str, list[str]] = {run["request"]["stage"]: [] for run in (*old.values(), *new.values())}
    for before, after in pairs(old, new):
        if before is None or after is None:
            side, name = ("NEW", after) if before is None else ("OLD", before)
            there = (new if before is None else old)[str(name)]
            found[there["request"]["stage"]].append(f"asked otherwise: {name} is in {side} alone")
            continue
        a, b = old[before], new[after]
        files = sorted(k for k in a["files"].keys() | b["files"].keys() if a["files"].get(k) != b["files"].get(k))
        if before != after:
            moved = sorted(k for k in a["request"]["parents"] if a["request"]["parents"][k] != b["request"]["parents"].get(k))
            files = [k for k in files if k != "run.json"]  # it holds the parents
            files_too = f", and {', '.join(files)}" if files else ""
            found[a["request"]["stage"]].append(f"of other parents ({', '.join(moved)}): {before} is {after}{files_too}")
        elif files:
            found[a["request"]["stage"]].append(f"computed otherwise: {before} has other {', '.join(files)}")
        elif a["digest"] != b["digest"]:
            found[a["request"]["stage"]].append(f"sealed otherwise: {before} has another digest of equal files")
    return found


def main(old: Path, new: Path, *, quick: bool) -> int:
    sides = []
    for checkout in (old, new):
        with tempfile.TemporaryDirectory() as folder:
            sides.append(run(checkout, Path(folder), quick=quick))
    (before, plan), (after, other) = sides
    found = differences(before, after)
    found["plan of attack quick"] = [f"{k}: {plan.get(k)} is {other.get(k)}" for k in plan | other if plan.get(k) != other.get(k)]
    counts = [Counter(r["request"]["stage"] for r in side.values()) for side in (before, after)]
    for stage, lines in found.items():
        print(f"{stage:22} {counts[0][stage]:4} {counts[1][stage]:4}  {f'{len(lines)} differ' if lines else 'equal'}")
        for line in lines[:SHOWN]:
            print(f"    {line}")
        if len(lines) > SHOWN:
            print(f"    and {len(lines) - SHOWN} more")
    first = [stage for stage, lines in found.items() if any("otherwise" in line for line in lines)]
    print(f"begins in: {', '.join(first) or 'the plan'}" if any(found.values()) else f"equal: {len(before)} runs, and the plan")
    return int(any(found.values()))


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--quick"]
    if len(given) != 2 or not all((Path(word) / "auditkit").is_dir() for word in given):
        sys.exit("two checkouts are wanted: python benchmarks/golden.py OLD NEW [--quick]")
    try:
        sys.exit(main(Path(given[0]), Path(given[1]), quick="--quick" in sys.argv[1:]))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
