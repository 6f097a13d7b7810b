"""What an attacker is given, and what an attack gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from auditkit.errors import UserError
from auditkit.models import Model
from auditkit.results import Measure, Record
from auditkit.sampling import Eps, Sampler
from auditkit.training import ForgetLoss

TIERS = {
    "query": "asks the model for images: any label, seed, guidance, sampler and starting image",
    "sampler": "owns the sampling loop and sees eps for any label",
    "weights": "has the weights and no image",
    "retain": "has the weights and images of the other classes",
    "forget": "has the weights and images of the forgotten class",
    "measure": "has the weights and candidate images, and measures instead of generating",
}
SELECTION = 1 << 20  # added to the seed wherever an attacker chooses: what is reported was drawn from other seeds
CHOSEN = "chosen/0"


class Query(Protocol):
    """Images uint8 (n, C, H, W) as a user of the model would get them, through any gate. `start` as in sampling.sample."""

    def __call__(
        self, label: int, n: int, seed: int, sampler: Sampler | None = None, start: tuple[Tensor, int] | None = None
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model under attack, filled in by stages up to the attack's tier; what lies above it is None.

    `eps` is the bare network's (x, t, labels) -> eps; `draw(eps, n, seed, sampler)` runs the attacker's own loop on any such
    function, one branch, no guidance. `render(model, label, n, seed)` samples a network that the attacker owns, n images of the label, or
    of each of a list in one batch; `network()` is a copy of the bare weights. `data(kind)` gives images uint8 and labels: "forget" or
    "retain" from the model split, "unseen" images of the class from the other splits. `score(images)` counts those that the selection
    judge calls the class in question, forget[0]; `agree(images, labels)` those that it calls by their label. `loss` is what the
    unlearning method declares that it did to its forget rows; `original` the weights before it. `spent()` counts the images that went
    through a network so far. `shape` is what the network sees, `image_shape` the images: the same but for a model in latents, between
    which and images uint8 `encode(images)` and `decode(x_0)` go.
    """

    forget: tuple[int, ...]
    classes: int
    shape: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    query: Query
    score: Callable[[Tensor], int]
    agree: Callable[[Tensor, Tensor], int]
    spent: Callable[[], int]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    eps: Eps | None = None
    draw: Callable[[Eps, int, int, Sampler], Tensor] | None = None
    render: Callable[[Model, int | list[int], int, int], Tensor] | None = None
    network: Callable[[], Model] | None = None
    data: Callable[[str], tuple[Tensor, Tensor]] | None = None
    loss: ForgetLoss | None = None
    original: Callable[[], Model] | None = None

    @property
    def asked(self) -> int:
        """The forgotten class in question."""
        return self.forget[0]

    @property
    def null(self) -> int:
        """The null class: the last row of the class table."""
        return self.classes

    @property
    def retained(self) -> list[int]:
        return [k for k in range(self.classes) if k not in self.forget]


class NotApplicable(Exception):
    """The attack cannot be mounted on this target (no loss declared, no original): not measured, with the reason."""


def of_asked(target: Target, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The images of the class in question alone, where several were forgotten."""
    mine = labels == target.asked
    return images[mine], labels[mine]


def class_table(model: Model) -> Tensor:
    """The live rows of the class table. Raises NotApplicable where the class embedding is no lookup."""
    try:
        return model.class_table
    except UserError as error:
        raise NotApplicable(str(error)) from error


class Point(Record):
    """`hits` of `n` images after `step` steps of one setting (for example lr=0.0005), by the attacker's own judge."""

    setting: str
    step: int
    hits: int
    n: int


class Cost(Record):
    """What the attack spent: images of f, trained numbers, network evaluations (one image; backward counts 2), images sampled."""

    forget_images: int = 0
    parameters: int = 0
    evaluations: int
    sampled_images: int


@dataclass(frozen=True)
class AttackResult:
    """The curve or grid, the attack's own images by "<setting>/<step>" (uint8), its cost, and what a reader must know.

    An attack that chooses among settings reports the images "chosen/0", drawn from other seeds than those it chose by; `chosen` names its
    choice. `kept` counts, after an attack that changes weights, images of the other classes that still show their label; `given` are the
    class's images that the attacker trained on. An attack that measures has no images: its points are the result, `measures` beside them.
    """

    curve: tuple[Point, ...]
    images: dict[str, Tensor]
    cost: Cost
    notes: tuple[str, ...] = ()
    chosen: str = ""
    measures: tuple[Measure, ...] = ()
    kept: Point | None = None
    given: Tensor | None = None
