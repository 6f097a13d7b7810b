"""Cases in which neither the original nor the subject shows the class: each must end in UNDECIDED and exit code 4, never in an answer.

    python benchmarks/controls.py [--cases 100] [--first 0]

Every case is drawn by its number: what the original is (a random network, a model that never saw the class, a class row that is another
class's, class rows in another order, an output of another sign or size, weights buried in noise), the class, and what was
"unlearned" from it. Where a judge that is not asked (the attacker's) surely sees more of the class in the original or the subject than in
noise of the same histogram, it is no such case and is drawn again.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from auditkit import cli, models, sampling
from auditkit.stages import source
from auditkit.stages.aim import attackers_judge
from auditkit_evaluators import matched, stats

CHECKED = 400  # images by which a case is found to be one
ARGUMENTS = ["--judges", "svc,knn,forest,logistic", "-n", "100", "--retain-n", "20", "--fail-on", "0.05"]


def stranger(rng: np.random.Generator, k: int, base: models.Model) -> tuple[str, models.Model]:
    """An original that does not show class k, and what it is called."""
    kind = str(rng.choice(["random", "never saw", "another row", "moved rows", "other output", "buried"]))
    model = base.copy()
    with torch.no_grad():
        table, out = model.class_table, model.net.conv_out
        if kind == "random":
            model = models.random_like(base, seed=int(rng.integers(2**31)))
        elif kind == "never saw":
            never = source.bundled("digits", without=k)
            assert never is not None
            model = never.load().copy()
        elif kind == "another row":
            table[k] = table[(k + int(rng.integers(1, 10))) % 10]
        elif kind == "moved rows":
            rows = len(table)
            shifts = [s for s in range(1, rows) if (k - s) % rows != model.null]  # unasked, a model draws every class
            table.copy_(torch.roll(table.clone(), int(rng.choice(shifts)), 0))
        elif kind == "other output":
            scale = float(rng.choice([-1.0, 0.0, 0.3, 3.0]))
            out.weight.mul_(scale)
            out.bias.mul_(scale)
        else:
            _shake(model, rng, float(rng.uniform(0.5, 2.0)))
    return kind, model


def _shake(model: models.Model, rng: np.random.Generator, share: float) -> None:
    """Noise on every parameter, so much of its own size."""
    with torch.no_grad():
        for p in model.net.parameters():
            noise = torch.from_numpy(rng.standard_normal(p.shape).astype(np.float32))
            p.add_(share * p.std(unbiased=False) * noise)


def subject_of(rng: np.random.Generator, original: models.Model) -> tuple[str, models.Model]:
    """What was "unlearned" from it: nearly nothing, its weights at random by a fiftieth, or everything."""
    kind = str(rng.choice(["a little", "more", "all"]))
    if kind == "all":
        return kind, models.random_like(original, seed=int(rng.integers(2**31)))
    model = original.copy()
    _shake(model, rng, 0.02 if kind == "more" else 0.001)
    return kind, model


def shows(model: models.Model, k: int) -> bool:
    """Whether the attacker's judge calls the images k surely more often than noise with their histogram."""
    judge, images = attackers_judge("digits"), sampling.sample(model, torch.full((CHECKED,), k), sampling.Sampler(), seed=0)
    noise = matched.matched(images, CHECKED, 0)
    ours, theirs = (int((judge(x) == k).sum()) for x in (images, noise))
    low = stats.difference("shown", ours, CHECKED, theirs, CHECKED).low
    return low is not None and low > 0


def case(number: int, folder: Path) -> tuple[str, int, dict[str, object]]:
    """Draws a case until neither model shows the class, runs `evaluate` on it, and gives its name, exit code and record."""
    base = source.bundled("digits")
    assert base is not None
    for draw in range(100):
        rng = np.random.default_rng([number, draw])
        k = int(rng.integers(10))
        kind, original = stranger(rng, k, base.load())
        done, subject = subject_of(rng, original)
        if not shows(original, k) and not shows(subject, k):
            break
    models.save(original, folder / "original")
    models.save(subject, folder / "subject")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        where = ["--class", str(k), "--model", str(folder / "subject"), "--original", str(folder / "original")]
        code = cli.run(["evaluate", *where, *ARGUMENTS, "--json"])
    return f"{kind}, class {k}, {done}", code, json.loads(out.getvalue() or "{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    codes, words, start = Counter[int](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.environ["AUDITKIT_RUNS"] = f"{place}/runs"  # the judges' cards serve all cases
        for number in range(given.first, given.first + given.cases):
            name, code, record = case(number, Path(place) / str(number))
            codes[code] += 1
            words[str(record.get("verdict"))] += 1
            if code != 4:
                print(f"{number}: {name}: exit {code}, {record.get('in_short')}", flush=True)
    seconds = round(time.monotonic() - start)
    print(json.dumps({"cases": given.cases, "exit": dict(codes), "verdict": dict(words), "seconds": seconds}))


if __name__ == "__main__":
    main()
