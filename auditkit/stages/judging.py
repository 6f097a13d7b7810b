"""Judges at work: built, each measured on its card before it speaks, then asked about one set of images after the other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

import auditkit_evaluators
from auditkit import data, files, rundir, training
from auditkit.errors import UserError
from auditkit.stages.cell import SILENT, Console, compute
from auditkit_evaluators import cards, evidence, examine, matched, noise, reference
from auditkit_evaluators.evaluation import Heard
from auditkit_evaluators.surrogates import SURROGATES
from auditkit_evaluators.verdict import decide
from auditkit_evaluators.votes import Judge

CARD, REFERENCE = "card.json", "reference.safetensors"
REFERENCE_ARRAYS = ("components", "scale", "effects", "errors")
HISTOGRAM_N = 2000  # noise drawn from the histogram costs nothing; the other forms cost a sampler run each
T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """The judges of one evaluation with their cards, and what the noise test compares with; `jobs` of them work at once."""

    judges: tuple[Judge, ...]
    cards: dict[str, cards.Card]
    real: reference.Reference
    dataset: data.Dataset
    seed: int
    jobs: int

    def each(self, work: Callable[[Judge], T]) -> list[T]:
        """`work(judge)` of every judge, in their order. Threads: networks on larger images release the interpreter's lock for most of
        their time; on digits two threads gain nothing (9.5 s with one, 9.5 s with two)."""
        torch.set_num_threads(1)
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(work, self.judges))


def check(names: tuple[str, ...]) -> None:
    """Raises UserError unless every name is known and one of them votes."""
    for name in names:
        auditkit_evaluators.check(name)
    if not any(auditkit_evaluators.speaks(name) for name in names):
        raise UserError(f"--judges {','.join(names)}: measures do not vote; give a judge beside them, like ensemble or clip")


def build(
    names: tuple[str, ...], dataset: data.Dataset, *, clip_model: str | None, weights: Path | None, seed: int, console: Console
) -> Panel:
    """The judges behind `names`; a card that exists is not measured again, whatever model is judged.

    Raises:
        UserError: no name that votes, or a judge that cannot be built.
    """
    judges, runs = _measured(names, dataset, clip_model, weights, seed, console)
    made = {judge.name: cards.Card.model_validate(run.read_json(CARD)) for judge, run in zip(judges, runs, strict=True)}
    return Panel(judges, made, _reference(dataset, seed, console), dataset, seed, console.jobs)


def measured(
    names: tuple[str, ...],
    *,
    data_name: str = "digits",
    clip_model: str | None = None,
    judge_weights: str | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> list[rundir.Run]:
    """The card of each judge behind `names`, as finished runs."""
    weights = Path(judge_weights) if judge_weights else None
    return _measured(names, data.load(data_name), clip_model, weights, seed, console)[1]


def _measured(
    names: tuple[str, ...], dataset: data.Dataset, clip_model: str | None, weights: Path | None, seed: int, console: Console
) -> tuple[tuple[Judge, ...], list[rundir.Run]]:
    check(names)
    with console.track("building judges", 1) as advance:
        judges = tuple(auditkit_evaluators.build(names, dataset, clip_model=clip_model, weights=weights, seed=seed))
        advance(1)
    runs = []
    with console.track("cards", len(judges)) as advance:
        for done, judge in enumerate(judges):
            runs.append(_card(judge, dataset, seed, console))
            advance(done + 1)
    return judges, runs


def _card(judge: Judge, dataset: data.Dataset, seed: int, console: Console) -> rundir.Run:
    """The card of one judge: a run of its own, found by the hash of the judge's weights and the data, or measured now."""
    request = card_request(judge.name[:40], {"key": cards.key(judge, dataset)}, dataset, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        run.write_json(CARD, cards.measure(judge, dataset, seed=seed).model_dump())
        return {"judge": judge.name, "fitted_on": judge.fitted_on}

    return compute(request, work, Console(wait=console.wait))


def card_request(name: str, params: dict[str, Any], dataset: data.Dataset, seed: int) -> rundir.Request:
    """What decides a card, and so its name."""
    return rundir.Request(stage="card", method=name, role="judge", seed=seed, params=params, data=dataset.sha256)


def _reference(dataset: data.Dataset, seed: int, console: Console) -> reference.Reference:
    """What the noise test compares with: a run like a card, since CIFAR-10's takes 19 s."""
    request = card_request("noise", {"version": reference.VERSION}, dataset, seed)

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        known = torch.cat([dataset.part(split)[0] for split in ("judges", "calibration")])
        made = reference.fit(known[: reference.MOST], seed=seed)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(made, name))) for name in REFERENCE_ARRAYS}
        run.write(REFERENCE, to_bytes(tensors))
        run.write_json(CARD, {"shape": list(made.shape), "reason": made.reason})
        return {"images": len(known)}

    found = compute(request, work, Console(wait=console.wait))
    arrays = {name: t.numpy() for name, t in load_file(files.check_safetensors(found.file(REFERENCE))).items()}
    about = found.read_json(CARD)
    return reference.Reference(shape=tuple(about["shape"]), reason=about["reason"], **arrays)


def hear(panel: Panel, images: Tensor, asked: int, *, name: str, role: str, digest: str, made: dict[str, Tensor] | None = None) -> Heard:
    """What every judge says of one set of images asked to show class `asked`, beside its controls, and the verdict.

    `made` holds the noise that the sampler gave from the same seeds, by form; the subject's histogram noise is drawn in greater number.
    """
    found = witnesses(panel, images, asked, name=f"{role}, {name}", made=made)
    structure = noise.test(images, panel.real, seed=panel.seed)
    distinct = len({image.numpy().tobytes() for image in images})
    verdict = decide(found, structure, panel.dataset.classes, distinct=distinct)
    return Heard(set=name, role=role, digest=digest, verdict=verdict, structure=structure, evidence=tuple(map(_brief, found)))


def witnesses(panel: Panel, images: Tensor, asked: int, *, name: str, made: dict[str, Tensor] | None = None) -> list[evidence.Evidence]:
    """The evidence of every judge about one set of images called `name`, asked to show class `asked`; `made` as in `hear`."""
    forms = {examine.HISTOGRAM: matched.matched(images, HISTOGRAM_N if made else len(images), panel.seed)} | (made or {})
    forms |= {form: make(images, panel.seed) for form, make in SURROGATES.items()}
    classes = panel.dataset.classes

    def one(judge: Judge) -> evidence.Evidence:
        reading, *read = examine.read_all(judge, {name: images, **forms}, asked, classes).values()
        controls = dict(zip(forms, read, strict=True))
        return evidence.gather(reading, panel.cards[judge.name], controls, classes, judges=len(panel.judges), seed=panel.seed)

    return panel.each(one)


def _brief(found: evidence.Evidence) -> evidence.Evidence:
    """Without the answers to each single control image, which nobody reads again."""
    controls = {form: control.model_copy(update={"said": None}) for form, control in found.controls.items()}
    return found.model_copy(update={"controls": controls})
