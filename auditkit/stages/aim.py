"""What an attacker of each tier is given: one model, filled in up to the tier and no further."""

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from auditkit import data, models, sampling, training
from auditkit.models import Model
from auditkit.stages.sample import key_of
from auditkit.stages.source import Source
from auditkit_attacks.target import TIERS, Target
from auditkit_evaluators.ensemble import pixels

ORDER = tuple(TIERS)
MOST = 4000  # images for the selection judge: fitting an SVC is quadratic in them


class Meter:
    """How many images went through a network: a hook that follows every copy."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, module: Any, given: Any, made: Any) -> None:
        self.rows += len(made.sample)

    def __deepcopy__(self, memo: Any) -> "Meter":
        return self  # the copies count on the same meter


def aim(
    who: Source,
    dataset: data.Dataset,
    classes: tuple[int, ...],
    *,
    tier: str,
    pictures: bool = False,
    loss: training.ForgetLoss | None = None,
    original: Source | None = None,
) -> Target:
    """The target of one attack of `tier`; data from the model split alone, but for the "unseen" images of a measuring attack.

    `pictures`: an attack of a lower tier that brings pictures of the class of its own.
    """
    gated = who.load()
    meter = Meter()
    gated.net.register_forward_hook(meter)
    bare = replace(gated, gate=())
    device = gated.net.device
    judge = attackers_judge(dataset.spec)
    has = ORDER.index(tier)

    def query(label: int, n: int, seed: int, sampler: sampling.Sampler | None = None, start: tuple[Tensor, int] | None = None) -> Tensor:
        return sampling.sample(gated, torch.full((n,), label), sampler or sampling.Sampler(), seed=key_of(seed, label), start=start)

    def render(model: Model, label: int | list[int], n: int, seed: int) -> Tensor:
        if isinstance(label, list):
            pieces = [(k, key_of(seed, k), 0, n) for k in label]
            return torch.cat(sampling.sample_several(model, pieces, sampling.Sampler()))
        return sampling.sample(model, torch.full((n,), label), sampling.Sampler(), seed=key_of(seed, label))

    @torch.no_grad()
    def eps(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return sampling.network(bare)(x.to(device), t.to(device), labels.to(device))

    def draw(own: sampling.Eps, n: int, seed: int, sampler: sampling.Sampler) -> Tensor:
        return sampling.sample(bare, torch.full((n,), classes[0]), sampler, seed=key_of(seed, classes[0]), eps=own)

    def images(kind: str) -> tuple[Tensor, Tensor]:
        if kind == "retain":
            return dataset.part("model", dataset.others(classes))
        asked = torch.tensor(classes)
        if kind == "forget":
            return dataset.part("model", asked)
        parts = [dataset.part(split, asked) for split in data.SPLITS if split != "model"]
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    return Target(
        forget=classes,
        classes=len(dataset.classes),
        shape=gated.shape,
        image_shape=gated.image_shape,
        query=query,
        score=lambda found: int((judge(found) == classes[0]).sum()),
        agree=lambda found, labels: int((judge(found) == labels).sum()),
        spent=lambda: meter.rows,
        encode=bare.encode,
        decode=bare.decode,
        eps=eps if has >= ORDER.index("sampler") else None,
        draw=draw if has >= ORDER.index("sampler") else None,
        render=render if has >= ORDER.index("weights") else None,
        network=bare.copy if has >= ORDER.index("weights") else None,
        data=images if has >= ORDER.index("retain") or pictures else None,
        loss=loss if has >= ORDER.index("weights") else None,
        original=original.load if original is not None and has >= ORDER.index("weights") else None,
    )


@functools.cache
def attackers_judge(data_name: str) -> Any:
    """The selection judge: an SVC fitted on the attacker's own images (the model split), apart from every reporting judge."""
    from sklearn.svm import SVC

    images, labels = data.load(data_name).part("model")
    if len(images) > MOST:  # folders come sorted by class
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST]
        images, labels = images[some], labels[some]
    fitted = SVC().fit(pixels(images), labels.numpy())
    return lambda found: torch.from_numpy(fitted.predict(pixels(found)))


def bypassed(model: models.Model, label: int) -> bool:
    """Whether the class's row does not matter to the network: a gate in the code is suspected, and attacks on the row mean nothing."""
    moved = replace(model, gate=()).copy()
    x = torch.randn(8, *model.shape, generator=torch.Generator().manual_seed(0)).to(model.net.device)
    t, labels = torch.linspace(50, 950, 8).long().to(x.device), torch.full((8,), label, device=x.device)
    with torch.no_grad():
        before = moved.net(x, t, class_labels=labels).sample
        for table in moved.class_tables:
            table[label] = table[label].flip(0) + 1
        return bool(torch.equal(before, moved.net(x, t, class_labels=labels).sample))
