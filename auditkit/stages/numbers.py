"""The numbers beside the verdict: retained classes, Fano's bound, density and fidelity, each beside noise or real images."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.results import Measure
from auditkit.stages.judging import Panel
from auditkit_evaluators import ensemble, matched, stats
from auditkit_evaluators import fano as bounds
from auditkit_evaluators.protocol import PROTOCOLS, stretch
from auditkit_evaluators.votes import Judge

Said = NDArray[np.int64]
Kept = dict[str, dict[str, list[Said]]]  # judge, role, and for each retained class what the judge calls its images


def retained_votes(panel: Panel, images: dict[str, dict[str, Tensor]], kept: list[int]) -> Kept:
    """What each judge calls the images of the retained classes, original's and subject's: by judge, role and class, one class an image."""
    roles = [r for r in ("original", "subject") if r in images]

    def one(judge: Judge) -> dict[str, list[Said]]:
        return {r: [votes.said for votes in judge.each([images[r][f"class/{c}"] for c in kept])] for r in roles}

    return dict(zip((judge.name for judge in panel.judges), panel.each(one), strict=True))


def retained(votes: Kept, kept: list[int]) -> tuple[Measure, ...]:
    """How often each judge sees the asked class in the retained ones: original, subject, and the change, image by image
    (both were drawn from the same seeds)."""
    found = []
    for judge, by_role in votes.items():
        right = {r: np.concatenate([said == c for said, c in zip(listed, kept, strict=True)]) for r, listed in by_role.items()}
        for role, hit in right.items():
            found.append(stats.rate(f"{judge}: retained classes, {role}", int(hit.sum()), len(hit), safer="higher"))
        if len(right) == 2:
            name = f"{judge}: change of retained classes"
            found.append(stats.paired_difference(name, right["subject"], right["original"], safer="higher"))
    return tuple(found)


def fano(panel: Panel, images: dict[str, Tensor], forgotten: tuple[int, ...], kept: list[int]) -> tuple[Measure, ...]:
    """Fano's bound for each judge, from what it recovers of every class that the subject was asked for."""
    classes = sorted((*forgotten, *kept))

    def one(judge: Judge) -> list[Measure]:
        rows = [np.bincount(v.said, minlength=len(classes)) for v in judge.each([images[f"class/{c}"] for c in classes])]
        return bounds.bound(judge.name, np.stack(rows), seed=panel.seed)

    return tuple(m for measures in panel.each(one) for m in measures)


def density(panel: Panel, images: Tensor, asked: int, *, prepare: Callable[[Tensor], Tensor] | None = None) -> tuple[Measure, ...]:
    """Density measures of the images, then of their matched noise, against real images of the class that no judge was fitted on;
    in pixels and in the features of the best network of each family."""
    from auditkit_evaluators.density import compare

    parts = [panel.dataset.part(split) for split in ("model", "calibration", "heldout")]
    real = torch.cat([x[labels == asked] for x, labels in parts])
    real = prepare(real) if prepare else real
    noise = matched.matched(images, len(images), panel.seed)
    found: list[Measure] = []
    for judge in _spaces(panel):
        features = [votes.features for votes in judge.each([images, noise, real])]
        if any(f is None for f in features):
            continue
        ours, control, reference = (np.asarray(f) for f in features)
        found += compare(ours, reference, space=judge.space, seed=panel.seed)
        beside = compare(control, reference, space=judge.space, seed=panel.seed, null=False)
        found += [m.model_copy(update={"name": f"{m.name}, matched noise"}) for m in beside]
    return tuple(found)


def _spaces(panel: Panel) -> list[Judge]:
    """One judge for each kind of features: pixels, and of each family of networks the one with the best hit rate."""
    chosen: dict[str, Judge] = {}
    for judge in panel.judges:
        kind = judge.space if judge.space == ensemble.PIXELS else judge.family
        known = chosen.get(kind)
        if known is None or (panel.cards[judge.name].hit.value or 0) > (panel.cards[known.name].hit.value or 0):
            chosen[kind] = judge
    return list(chosen.values())


def fidelity(
    panel: Panel, images: dict[str, dict[str, Tensor]], kept: list[int], *, protocol: str, inception: str | None
) -> tuple[Measure, ...]:
    """FID and its like of the retained classes, subject and original: in Inception features where weights were given, and in those of
    the best network among the judges."""
    from pathlib import Path

    from auditkit_evaluators import extractor
    from auditkit_evaluators.fidelity import compare

    how = PROTOCOLS[protocol]
    prepare = stretch if how.stretch else (lambda x: x)
    real, labels = panel.dataset.part(how.reference)
    reference = {c: prepare(real[labels == c]) for c in kept}
    networks = [j for j in _spaces(panel) if j.space != ensemble.PIXELS]
    extractors = [extractor.inception(Path(inception))] if inception else []
    if networks:
        extractors.append(extractor.judge_extractor(max(networks, key=lambda j: panel.cards[j.name].hit.value or 0)))
    found: list[Measure] = []
    for features in extractors:
        for role in (r for r in ("original", "subject") if r in images):
            given = {c: prepare(images[role][f"class/{c}"]) for c in kept}
            found += [m.model_copy(update={"name": f"{role}: {m.name}"}) for m in compare(given, reference, features, seed=panel.seed)]
    if not extractors:
        found.append(
            Measure(name="fidelity", value=None, n=0, note="no judge has features, and no Inception weights were given (--inception)")
        )
    return tuple(found)
