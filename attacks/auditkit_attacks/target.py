"""What an attacker is given, and what an attack gives back."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from auditkit.models import Model
from auditkit.results import Record


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model under attack, filled in by stages up to the attack's tier; what lies above it is None.

    `query(label, n, seed)` gives uint8 images (n, C, H, W) as a user of the model would get them, through any gate.
    `render(model, label, n, seed)` samples a network that the attacker owns. `network()` is a copy of the bare weights.
    `data(kind)` gives the attacker's images uint8 and labels: "forget" or "retain", from the model split alone.
    `score(images)` counts the images that the selection judge calls the class in question, forget[0].
    """

    forget: tuple[int, ...]
    query: Callable[[int, int, int], Tensor]
    render: Callable[[Model, int, int, int], Tensor]
    score: Callable[[Tensor], int]
    network: Callable[[], Model] | None = None
    data: Callable[[str], tuple[Tensor, Tensor]] | None = None


class Point(Record):
    """`hits` of `n` images after `step` steps of one setting (for example lr=0.0005)."""

    setting: str
    step: int
    hits: int
    n: int


class Cost(Record):
    """What the attack spent: images of f, trained numbers, network evaluations (one image; backward counts 2); curve samples apart."""

    forget_images: int
    parameters: int
    evaluations: int
    sampled_images: int


@dataclass(frozen=True)
class AttackResult:
    """The curve, the attack's own images by "<setting>/<step>" (uint8), its cost, and what a reader must know."""

    curve: tuple[Point, ...]
    images: dict[str, Tensor]
    cost: Cost
    notes: tuple[str, ...] = ()
