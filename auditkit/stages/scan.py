"""Scan a checkpoint: which of the weights in it still make the class.

Files that hold the unlearned weights often hold older ones too: an average with decay .9999 is 90.5 % original after 1000 steps of
unlearning, and Adam's moments point back along the way.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditkit import checkpoint, data, models, pipeline, rundir, sampling, schedule, weight_sets
from auditkit.errors import UserError
from auditkit.stages import source
from auditkit.stages.aim import attackers_judge
from auditkit.stages.cell import SILENT, Console
from auditkit.stages.sample import key_of
from auditkit.stages.train import check_fits, find_original
from auditkit_evaluators import stats
from auditkit_evaluators.excess import MARGIN

STRETCHES = (2.0, 5.0)  # how far beyond an average, away from the raw weights
BACK = (0.003, 0.01, 0.03)  # of the weights' norm, against the optimizer's last direction
FIRST, SECOND = "exp_avg", "exp_avg_sq"  # Adam's moments: a pair; an average that is called "exp_avg" alone is weights
ALIVE = 0.5  # share of images of the other classes that a set must show, before its silence about one class says anything
AVERAGES = ("ema", "average", "shadow", "swa")
MOST_IMAGES = 10**6
KEPT = 10  # images of each other class
Weights = dict[str, Tensor]
Hits = Callable[[models.Model], int]


def scan(
    what: str,
    classes: tuple[int, ...] | None,
    *,
    original: str | None = None,
    data_name: str = "digits",
    n: int = 100,
    seed: int = 0,
    console: Console = SILENT,
) -> dict[str, Any]:
    """Samples every set of weights in a checkpoint, folder or run, and what can be derived from them; compares with a random network.

    `unread` names the files that were not looked at, `rest` the numbers that belong to no set, `dead` the sets that make no other class
    either: while there are any (`complete` is False), that no set makes the class is no all-clear.
    """
    if not 1 <= n <= MOST_IMAGES:
        raise UserError(f"-n takes 1 to {MOST_IMAGES} images, got {n}")
    dataset = data.load(data_name)
    path = _find(what)
    forget = classes or _classes_of(path)
    dataset.check_classes(forget)
    base = _architecture(path, original, data_name)
    check_fits(base, dataset, what)
    judge, label = attackers_judge(dataset.spec), forget[0]
    kept = dataset.others(forget).repeat_interleave(KEPT)

    def hits(model: models.Model) -> int:
        made = sampling.sample(model, torch.full((n,), label), sampling.Sampler(), seed=key_of(seed, label))
        return int((judge(made) == label).sum())

    def others(model: models.Model) -> int:
        return int((judge(sampling.sample(model, kept, sampling.Sampler(), seed=key_of(seed, KEPT))) == kept).sum())

    codec = base.codec.vae.state_dict() if base.codec else {}
    wanted = {name: p.detach() for name, p in base.net.named_parameters()}
    sets: dict[str, Weights] = {}
    unread: list[str] = []
    rest: dict[str, int] = {}
    files_found = checkpoint.find(path)
    for file in files_found:
        if not schedule.check(file.parent) and path.is_dir():
            console.say(f"{file.parent.name}: {schedule.ASSUMED}")
        called = str(file.relative_to(path)) if path.is_dir() else file.name
        try:
            found = weight_sets.find(checkpoint.read(file), wanted)
        except UserError as error:
            if len(files_found) == 1:
                raise
            unread.append(str(error))  # one file among several that cannot be read hides nothing about the others
            console.say(str(error))
            continue
        rest |= {f"{called}: {name}": count for name, count in found.rest.items() if name not in codec}
        sets |= {f"{called}: {name or 'weights'}": weights for name, weights in found.sets.items()}
        unread += [f"{called} holds {record}, which PyTorch does not read" for record in checkpoint.unread_records(file)]
    floor, rows = hits(models.random_like(base, seed=source.RANDOM_SEED)), []
    for name, weights, derived in _candidates(sets):
        console.say(name)
        rows.append({**_row(name, weights, base, hits, floor, n, others, len(kept)), "derived": derived})
    if not rows:
        raise UserError(
            f"{what} holds no set of weights of this architecture: give the model whose architecture it has with --original RUN|DIR"
        )
    unread += [f"{p} is no checkpoint of a form that is read here" for p in checkpoint.beside(path, base.parameters)]
    dead = [row["weights"] for row in rows if not row["derived"] and not _alive(row)]
    about = {"what": what, "class": dataset.classes[label], "n": n, "random": floor / n, "dead": dead}
    still = [row["weights"] for row in rows if row["still"]]
    return {**about, "rows": rows, "still": still, "unread": unread, "rest": rest, "complete": not unread and not rest and not dead}


def _alive(row: dict[str, Any]) -> bool:
    """Whether a set of weights makes this class or most images of the others: of one that makes nothing its silence says nothing."""
    return bool(row["still"]) or (row["others"] is not None and row["others"]["value"] >= ALIVE)


def _find(what: str) -> Path:
    path = Path(what)
    return path if path.exists() else rundir.root() / what if (rundir.root() / what).is_dir() else rundir.find(what).path


def _classes_of(path: Path) -> tuple[int, ...]:
    """The classes that the run says it forgot. Raises UserError for anything else."""
    try:
        request = rundir.Request.model_validate_json((path / rundir.REQUEST).read_text())
    except (OSError, ValueError):
        raise UserError(f"--class is needed: {path} does not say which class was forgotten") from None
    if not request.classes:
        raise UserError(f"--class is needed: {path.name} forgot none")
    return request.classes


def _architecture(path: Path, original: str | None, data_name: str) -> models.Model:
    """The network that the weights belong to: --original, the config beside them, or the bundled one."""
    if original is not None:
        return source.named(original, "original").load()
    pipelines = [*path.rglob(pipeline.INDEX), *(above / pipeline.INDEX for above in path.parents[:2] if path.is_file())]
    networks = [p for p in [*path.rglob(models.CONFIG), path.parent / models.CONFIG] if (p.parent / models.WEIGHTS).is_file()]
    beside = next((p.parent for p in [*pipelines, *networks] if p.is_file()), None)
    if beside is not None:
        return replace(models.load(beside), gate=())
    return find_original(data_name, None).load()


def _candidates(sets: dict[str, Weights]) -> Iterator[tuple[str, Weights, bool]]:
    """Every complete set by its file and prefix, then what can be derived: beyond an average of the same file, and back along the
    optimizer's direction; and whether it was derived."""
    found = {k: {name: t.float() for name, t in s.items()} for k, s in sets.items()}
    seconds = {k.replace(FIRST, SECOND): k for k in found if FIRST in k and SECOND not in k and k.replace(FIRST, SECOND) in found}
    moments = {*seconds, *seconds.values()} | {k for k in found if f"max_{SECOND}" in k}
    plain = {k: s for k, s in found.items() if k not in moments}
    for name, weights in plain.items():
        yield name, weights, False
    if not plain:
        return
    raw_name = next((p for p in plain if not any(word in p.lower() for word in AVERAGES)), next(iter(plain)))
    raw = plain[raw_name]
    for name, weights in plain.items():
        for g in STRETCHES if name != raw_name and name.split(": ")[0] == raw_name.split(": ")[0] else ():
            yield f"{name} stretched {g:g}", {k: raw[k] + g * (weights[k] - raw[k]) for k in raw}, True
    for second, first in seconds.items():
        direction = {k: found[first][k] / (found[second][k].sqrt() + 1e-8) for k in raw}
        size = sum(float(w.square().sum()) for w in raw.values()) ** 0.5
        length = sum(float(d.square().sum()) for d in direction.values()) ** 0.5
        for share in BACK:
            file, _, prefix = first.partition(": ")
            back = {k: raw[k] + share * size / max(length, 1e-12) * direction[k] for k in raw}
            yield f"{file}: back along {prefix} by {100 * share:g} %", back, True


def _row(name: str, weights: Weights, base: models.Model, hits: Hits, floor: int, n: int, others: Hits, kept: int) -> dict[str, Any]:
    """One set of weights: the share that shows the class, whether it is surely above a random network's, and where it is not, the share
    of `kept` images of the other classes that show theirs."""
    unknown = {"weights": name, "rate": None, "still": False, "others": None}
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        return {**unknown, "why": "not measured: NaN or infinity"}
    model = base.copy()
    model.net.load_state_dict(weights, strict=False)  # a network's buffers are no weights
    try:
        k = hits(model)
        over = stats.difference(name, k, n, floor, n)
        still = over.low is not None and over.low > MARGIN
        rest = None if still else stats.rate(f"{name}, others", others(model), kept, safer="neither").model_dump()
    except FloatingPointError as error:
        return {**unknown, "why": f"not measured: {error}"}
    rate = stats.rate(name, k, n, safer="lower").model_dump()
    return {"weights": name, "rate": rate, "still": still, "others": rest, "why": ""}
