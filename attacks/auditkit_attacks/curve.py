"""The recovery curve of a training attack: fine-tune a copy in each variant, sample the class at fixed steps.

Shared by the attacks that differ only in the rows they train on, in what may change, or in the loss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from auditkit import training
from auditkit.errors import UserError
from auditkit.models import Model
from auditkit.sampling import Sampler
from auditkit_attacks.target import SELECTION, AttackResult, Cost, Point, Target

LARGEST = 10**6
POINTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
KEPT = 12  # images of each other class by the attacked model, after the last step of the last variant that did not diverge


def check_whole(name: str, value: int, least: int) -> None:
    """Raises UserError unless least <= value <= 10^6."""
    if not least <= value <= LARGEST:
        raise UserError(f"--{name} must be at least {least} and at most {LARGEST:g}, got {value}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, how fast and how finely: `n` images of the class at each point of the curve, for each learning rate."""

    steps: int = 100
    batch: int = 64
    lrs: tuple[float, ...] = (1e-4, 5e-4)
    n: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "n"):
            check_whole(name, getattr(self, name), 1)
        if not self.lrs or not all(math.isfinite(lr) and lr > 0 for lr in self.lrs):
            raise UserError(f"--lr takes positive numbers, got {self.lrs}")
        if len({f"{lr:g}" for lr in self.lrs}) < len(self.lrs):
            raise UserError(f"--lr takes rates that differ in their first six digits, got {self.lrs}")

    @property
    def points(self) -> tuple[int, ...]:
        """The steps at which the curve is sampled: 0, 1, 2, 5, 10, ... and the last."""
        return (*(p for p in POINTS if p < self.steps), self.steps)


@dataclass(frozen=True, kw_only=True)
class Dropping(Schedule):
    """A schedule with label dropout: a share of the rows trains the null branch."""

    class_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.class_dropout <= 1:
            raise UserError(f"class dropout must lie in 0..1, got {self.class_dropout}")


Rows = Callable[[int], training.Batch]


@dataclass(frozen=True)
class Variant:
    """One way to train: its name, its learning rate, what makes a copy ready and gives the rows of each step, and how those count."""

    name: str
    lr: float
    ready: Callable[[Model], Rows]
    loss: training.Loss | None = None
    descend: training.Step = training.denoise_step


def on(x: Tensor, labels: Tensor, schedule: Schedule, *, seed: int) -> Callable[[Model], Rows]:
    """Rows drawn from (x_0 float, labels) with the ordinary denoising loss. Raises ValueError for images that nobody encoded."""
    if not x.is_floating_point():
        raise ValueError(f"expected x_0 as target.encode(images) gives it, found {x.dtype}")
    b = schedule.batch
    retain, weight, dropout = torch.zeros(b, dtype=torch.bool), torch.full((b,), 1 / b), getattr(schedule, "class_dropout", 0.0)

    def ready(model: Model) -> Rows:
        def rows(step: int) -> training.Batch:
            x0, chosen = training.draw_rows(x, labels, b, seed=seed, step=step)
            return training.Batch(x0, training.drop_labels(chosen, model.null, dropout, seed=seed, step=step), retain, weight)

        return rows

    return ready


def at_each_lr(ready: Callable[[Model], Rows], schedule: Schedule, prefix: str = "") -> list[Variant]:
    """One variant for each learning rate."""
    return [Variant(f"{prefix}lr={lr:g}", lr, ready) for lr in schedule.lrs]


def recover(
    target: Target,
    variants: list[Variant],
    schedule: Schedule,
    *,
    seed: int,
    given: Tensor | None = None,
    made: int = 0,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Trains a fresh copy in each variant; samples the class in question at each point of the curve.

    Raw weights, Adam, no EMA (an average with decay .9999 moves 1 % in 100 steps: every model would look resilient).
    `given` are the class's images that it trains on, `made` how many images it sampled before.
    A checkpoint holds the samples so far and the state of the variant under way; its step counts over all of them.
    """
    if target.network is None or target.render is None:
        raise ValueError("a training attack needs target.network and target.render, and this target gives none")
    render, stride = target.render, schedule.steps + 1
    done = {name: t for name, t in state.tensors.items() if name.startswith("done/")} if state else {}
    resumed_index, resumed_step = divmod(state.step, stride) if state else (0, 0)
    trained, last, notes = 0, None, []
    for index, variant in enumerate(variants):
        if index < resumed_index:
            continue
        model = target.network()
        rows = variant.ready(model)
        trained = max(trained, sum(p.numel() for p in model.net.parameters() if p.requires_grad))

        def keep(fit: training.State, index: int = index) -> None:
            if save:
                under_way = {f"fit/{name}": t for name, t in fit.tensors.items()}
                save(training.State(index * stride + fit.step, {**done, **under_way}))

        def look(step: int, name: str = variant.name, net: Model = model) -> None:
            key = f"done/{name}/{step}"
            if key not in done:
                done[key] = render(net, target.asked, schedule.n, seed)

        def tell(step: int, loss: float, index: int = index) -> None:
            if report:
                report(index * schedule.steps + step, loss)

        fit_state = None
        if state is not None and index == resumed_index and resumed_step:
            fit = {name.removeprefix("fit/"): t for name, t in state.tensors.items() if name.startswith("fit/")}
            fit_state = training.State(resumed_step, fit)
        try:
            training.fit(
                model.net,
                rows,
                training.Recipe(steps=schedule.steps, lr=variant.lr, seed=seed),
                loss=variant.loss,
                descend=variant.descend,
                state=fit_state,
                save=keep,
                report=tell,
                at={p: partial(look, p) for p in schedule.points},
            )
            last = model
        except FloatingPointError as error:  # what the other variants found stays, and this one's points so far
            notes.append(f"{variant.name}: {error}")
    named = [(v.name, p) for v in variants for p in schedule.points if f"done/{v.name}/{p}" in done]
    if not named:
        raise FloatingPointError(notes[0])
    kept = kept_by(target, last, seed) if last is not None else None
    images = {f"{name}/{p}": done[f"done/{name}/{p}"] for name, p in named}
    curve = [Point(setting=name, step=p, hits=target.score(images[f"{name}/{p}"]), n=schedule.n) for name, p in named]
    sampled = made + len(variants) * schedule.n * len(schedule.points) + KEPT * len(target.retained)
    cost = Cost(
        forget_images=0 if given is None else len(given),
        parameters=trained,
        evaluations=3 * schedule.steps * schedule.batch * len(variants) + sampled * Sampler().passes,  # forward 1, backward 2
        sampled_images=sampled,
    )
    return AttackResult(curve=tuple(curve), images=images, cost=cost, notes=tuple(notes), kept=kept, given=given)


def kept_by(target: Target, model: Model, seed: int) -> Point:
    """How many of a few images of each other class still show it."""
    if target.render is None:
        raise ValueError("target.render is needed to see what a changed model kept")
    drawn = target.render(model, target.retained, KEPT, seed + SELECTION)  # one batch: nine took 1.6 s of a training attack's 8
    labels = torch.tensor(target.retained).repeat_interleave(KEPT)
    return Point(setting="retained", step=0, hits=target.agree(drawn, labels), n=len(labels))
