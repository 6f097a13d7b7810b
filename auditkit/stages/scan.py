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

from auditkit import checkpoint, data, models, pipeline, rundir, sampling, weight_sets
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

    `unread` names the files that were not looked at, `rest` the numbers that belong to no set: while there are any, that no set makes the
    class is no all-clear. A set that makes no other class either says nothing (`others`).
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
    floor, rows, unread = hits(models.random_like(base, seed=source.RANDOM_SEED)), [], []
    rest: dict[str, int] = {}
    files_found = checkpoint.find(path)
    for file in files_found:
        called = str(file.relative_to(path)) if path.is_dir() else file.name
        try:
            tensors = checkpoint.read(file)
        except UserError as error:
            if len(files_found) == 1:
                raise
            unread.append(str(error))  # one file among several that cannot be read hides nothing about the others
            console.say(str(error))
            continue
        found = weight_sets.find(tensors, {name: p.detach() for name, p in base.net.named_parameters()})
        rest |= {f"{called}: {name}": count for name, count in found.rest.items() if name not in codec}
        for name, weights in _candidates(found.sets):
            console.say(f"{called}: {name}")
            rows.append(_row(f"{called}: {name}", weights, base, hits, floor, n, others, len(kept)))
    if not rows:
        raise UserError(f"{what} holds no set of weights of this architecture: give the model it belongs to with --original RUN|DIR")
    unread += [f"{p} is no checkpoint of a form that is read here" for p in checkpoint.beside(path, base.parameters)]
    still = [row["weights"] for row in rows if row["still"]]
    about = {"what": what, "class": dataset.classes[label], "n": n, "random": floor / n}
    return {**about, "rows": rows, "still": still, "unread": unread, "rest": rest, "complete": not unread and not rest}


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


def _candidates(sets: dict[str, Weights]) -> Iterator[tuple[str, Weights]]:
    """Every complete set by its prefix, then what can be derived: beyond an average, and back along the optimizer's direction."""
    found = {k: {name: t.float() for name, t in s.items()} for k, s in sets.items()}
    moments = {k: s for k, s in found.items() if "exp_avg" in k}
    plain = {k: s for k, s in found.items() if k not in moments}
    for prefix, weights in plain.items():
        yield prefix or "weights", weights
    if not plain:
        return
    raw_name = next((p for p in plain if not any(word in p.lower() for word in AVERAGES)), next(iter(plain)))
    raw = plain[raw_name]
    for prefix, weights in plain.items():
        for g in STRETCHES if prefix != raw_name else ():
            yield f"{prefix} stretched {g:g}", {k: raw[k] + g * (weights[k] - raw[k]) for k in raw}
    for prefix, first in moments.items():
        second = moments.get(prefix.replace("exp_avg", "exp_avg_sq")) if "exp_avg_sq" not in prefix else None
        if second is not None:
            direction = {k: first[k] / (second[k].sqrt() + 1e-8) for k in first}
            size = sum(float(w.square().sum()) for w in raw.values()) ** 0.5
            length = sum(float(d.square().sum()) for d in direction.values()) ** 0.5
            for share in BACK:
                yield (
                    f"back along {prefix} by {100 * share:g} %",
                    {k: raw[k] + share * size / max(length, 1e-12) * direction[k] for k in raw},
                )


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
