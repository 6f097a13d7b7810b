"""The positive control of an evaluation, and the labels that look mixed up (docs/verdict.md)."""

import numpy as np
from torch import Tensor

from auditkit import data
from auditkit.stages import judging
from auditkit.stages.aim import attackers_judge
from auditkit.stages.cell import Console
from auditkit.stages.numbers import Kept
from auditkit.stages.sample import images as images_of
from auditkit.stages.sample import sample
from auditkit.stages.source import Source
from auditkit_evaluators import control, labels, matched, stats
from auditkit_evaluators.control import Control
from auditkit_evaluators.evaluation import Heard
from auditkit_evaluators.examine import MARGIN

N, RETAINED = 100, 50  # images of the class by the original; without one, of each retained class by the subject


def controls(
    panel: judging.Panel, classes: tuple[int, ...], heard: list[Heard], images: dict[str, Tensor], votes: Kept, kept: list[int]
) -> tuple[Control, ...]:
    """One for each forgotten class: by the original's images among `heard`, else by the subject's `images` of the retained classes.

    Where the images of the labels surely show other classes in a pattern, that is said too; in the subject alone it is a failure.
    """
    names = panel.dataset.classes
    untouched = {role: {h.verdict.asked: h for h in heard if (h.role, h.set) == (role, "untouched")} for role in ("original", "subject")}
    originals = untouched["original"]
    mixed = {role: mixed_up(counts_of(role, votes, kept, untouched[role], len(names)), names) for role in untouched}
    retained = {} if originals else {k: judging.witnesses(panel, images[f"class/{k}"], k, name="retained") for k in kept}
    found = []
    for k in classes:
        one = (
            control.of_images(originals[k].evidence, names, where="original") if k in originals else control.of_retained(retained, k, names)
        )
        found.append(control.with_labels(one, original=mixed["original"], subject=mixed["subject"]))
    return tuple(found)


def counts_of(role: str, votes: Kept, kept: list[int], heard: dict[int, Heard], width: int) -> dict[int, dict[str, list[int]]]:
    """What each judge calls the images of each label of one role: of the retained ones by `votes`, of the others as `heard`."""
    counts: dict[int, dict[str, list[int]]] = {}
    for judge, by_role in votes.items():
        for label, said in zip(kept, by_role.get(role, []), strict=False):
            counts.setdefault(label, {})[judge] = np.bincount(said, minlength=width).tolist()
    for label, found in heard.items():
        counts[label] = {e.judge: list(e.reading.votes) for e in found.evidence}
    return counts


def mixed_up(counts: dict[int, dict[str, list[int]]], classes: tuple[str, ...]) -> str | None:
    """The sentence about labels that draw other classes than their own, or None."""
    return labels.pattern(labels.drawn(counts), classes)


def of_given(panel: judging.Panel, real: Tensor, asked: int, by_label: dict[int, Tensor]) -> Control:
    """The positive control of given images: `real` ones of the class, and where the file has labels, what its images of each show."""
    one = control.of_images(judging.witnesses(panel, real, asked, name="real, heldout"), panel.dataset.classes, where="real images")
    width = len(panel.dataset.classes)
    counts = {
        label: {j.name: np.bincount(j.judge(images).said, minlength=width).tolist() for j in panel.judges}
        for label, images in by_label.items()
    }
    return control.with_labels(one, original=None, subject=mixed_up(counts, panel.dataset.classes))


def images_needed(original: Source | None, dataset: data.Dataset, classes: tuple[int, ...]) -> int:
    """How many images `drawn` samples."""
    return N if original else RETAINED * (len(dataset.classes) - len(classes))


def drawn(
    dataset: data.Dataset, original: Source | None, subject: Source, classes: tuple[int, ...], seed: int, console: Console
) -> dict[int, Tensor]:
    """The images that a positive control looks at: the original's of the class in question, else the subject's of the retained ones."""
    if original is None:
        return retained_of(subject, dataset, classes, seed, console)
    run = sample(original, {classes[0]: N}, data_name=dataset.spec, seed=seed, console=Console(wait=console.wait))
    return {classes[0]: images_of(run)[f"class/{classes[0]}"]}


def of_case(
    panel: judging.Panel, original: Source | None, subject: Source, classes: tuple[int, ...], seed: int, console: Console
) -> Control:
    """The positive control of a suite, by its reporting judges, and what original and subject draw for the retained labels."""
    names = panel.dataset.classes
    shown = drawn(panel.dataset, original, subject, classes, seed, console)
    found = {k: judging.witnesses(panel, images, k, name="positive control") for k, images in shown.items()}
    one = control.of_images(found[classes[0]], names, where="original") if original else control.of_retained(found, classes[0], names)
    mixed = {}
    for role, who in (("original", original), ("subject", subject)):
        images = retained_of(who, panel.dataset, classes, seed, console) if who else {}
        counts = {k: {j.name: np.bincount(j.judge(x).said, minlength=len(names)).tolist() for j in panel.judges} for k, x in images.items()}
        mixed[role] = mixed_up(counts, names)
    return control.with_labels(one, original=mixed["original"], subject=mixed["subject"])


def retained_of(who: Source, dataset: data.Dataset, classes: tuple[int, ...], seed: int, console: Console) -> dict[int, Tensor]:
    """50 images of each retained class by one model."""
    counts = {int(k): RETAINED for k in dataset.others(classes)}
    made = images_of(sample(who, counts, data_name=dataset.spec, seed=seed, console=Console(wait=console.wait)))
    return {k: made[f"class/{k}"] for k in counts}


def of_attack(
    dataset: data.Dataset, original: Source | None, subject: Source, classes: tuple[int, ...], seed: int, console: Console
) -> Control:
    """The positive control of one attack, by the attacker's own judge: it sees a class that it answers surely more than 5 points more
    often than for noise with the images' histogram."""
    judge, names, label = attackers_judge(dataset.spec), dataset.classes, classes[0]
    shown = drawn(dataset, original, subject, classes, seed, console)

    def hits(images: Tensor, k: int) -> int:
        return int((judge(images) == k).sum())

    counts = {k: (hits(x, k), hits(matched.matched(x, len(x), seed), k), len(x)) for k, x in shown.items()}
    over = {k: stats.difference("shown", a, n, b, n, comparisons=len(counts)) for k, (a, b, n) in counts.items()}
    seen = [k for k, m in over.items() if m.low is not None and m.low > MARGIN]
    if original:
        said = f"the original itself shows {names[label]!r} in {counts[label][0]} of {counts[label][2]} images by the attacker's judge"
        why = f"positive control: {said}" if seen else f"{said}: wrong schedule, label or model?"
        return Control(asked=label, where="original", passed=bool(seen), why=why)
    return control.by_retained(label, names[label], seen=len(seen), of=len(counts), n=RETAINED, who="the attacker's judge sees")
