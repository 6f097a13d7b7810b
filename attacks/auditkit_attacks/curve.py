"""The recovery curve of a training attack: fine-tune a copy at each learning rate, sample the class at fixed steps.

Shared by the attacks that differ only in the images they train on.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from auditkit import data, training
from auditkit.errors import UserError
from auditkit.models import Model
from auditkit_attacks.target import AttackResult, Cost, Point, Target

LARGEST = 10**6
POINTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, how fast and how finely: `n` images of the class at each point of the curve, for each learning rate."""

    steps: int
    batch: int
    lrs: tuple[float, ...]
    n: int
    class_dropout: float

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "n"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise UserError(f"--{name} must be at least 1 and at most {LARGEST:g}, got {getattr(self, name)}")
        if not self.lrs or not all(math.isfinite(lr) and lr > 0 for lr in self.lrs):
            raise UserError(f"--lr takes positive numbers, got {self.lrs}")
        if len({f"{lr:g}" for lr in self.lrs}) < len(self.lrs):
            raise UserError(f"--lr takes rates that differ in their first six digits, got {self.lrs}")
        if not 0 <= self.class_dropout <= 1:
            raise UserError(f"class dropout must lie in 0..1, got {self.class_dropout}")

    @property
    def points(self) -> tuple[int, ...]:
        """The steps at which the curve is sampled: 0, 1, 2, 5, 10, ... and the last."""
        return (*(p for p in POINTS if p < self.steps), self.steps)


def recover(
    target: Target,
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> AttackResult:
    """Fine-tunes on (images uint8, labels); samples the first forgotten class at each point of the curve.

    Raw weights, Adam, no EMA (an average with decay .9999 moves 1 % in 100 steps: every model would look resilient).
    A checkpoint holds the samples so far and the state of the learning rate under way; its step counts over all of them.
    """
    if target.network is None:
        raise ValueError("a training attack needs target.network, and this target gives none")
    x, b = data.to_model(images), schedule.batch
    is_forget, weight = torch.zeros(b, dtype=torch.bool), torch.full((b,), 1 / b)
    start = [f"lr={lr:g}/0" for lr in schedule.lrs]
    done = {name: t for name, t in state.tensors.items() if name.startswith("lr=")} if state else {}
    if not done:  # before any step the learning rates share one sample
        untouched = target.render(target.network(), target.forget[0], schedule.n, seed)
        done = {key: untouched.clone() for key in start}
    resumed_index, resumed_step = divmod(state.step, schedule.steps + 1) if state else (0, 0)
    parameters = 0
    for index, lr in enumerate(schedule.lrs):
        if index < resumed_index:
            continue
        model = target.network()
        parameters = model.parameters

        def batches(step: int, null: int = model.null) -> training.Batch:
            x0, chosen = training.draw_rows(x, labels, b, seed=seed, step=step)
            dropped = training.drop_labels(chosen, null, schedule.class_dropout, seed=seed, step=step)
            return training.Batch(x0, dropped, is_forget, weight)

        def keep(fit: training.State, index: int = index) -> None:
            if save:
                under_way = {f"fit/{name}": t for name, t in fit.tensors.items()}
                save(training.State(index * (schedule.steps + 1) + fit.step, {**done, **under_way}))

        def look(step: int, lr: float = lr, net: Model = model) -> None:
            if f"lr={lr:g}/{step}" not in done:
                done[f"lr={lr:g}/{step}"] = target.render(net, target.forget[0], schedule.n, seed)

        def tell(step: int, loss: float, index: int = index) -> None:
            if report:
                report(index * schedule.steps + step, loss)

        fit_state = None
        if state is not None and index == resumed_index and resumed_step:
            fit = {name.removeprefix("fit/"): t for name, t in state.tensors.items() if name.startswith("fit/")}
            fit_state = training.State(resumed_step, fit)
        training.fit(
            model.net,
            batches,
            training.Recipe(steps=schedule.steps, lr=lr, seed=seed),
            state=fit_state,
            save=keep,
            report=tell,
            at={p: partial(look, p) for p in schedule.points},
        )
    curve = tuple(
        Point(setting=f"lr={lr:g}", step=p, hits=target.score(done[f"lr={lr:g}/{p}"]), n=schedule.n)
        for lr in schedule.lrs
        for p in schedule.points
    )
    cost = Cost(
        forget_images=int(torch.isin(labels, torch.tensor(target.forget)).sum()),
        parameters=parameters,
        evaluations=3 * schedule.steps * b * len(schedule.lrs),  # forward 1, backward 2
        sampled_images=schedule.n * (1 + len(schedule.lrs) * (len(schedule.points) - 1)),
    )
    return AttackResult(curve=curve, images=done, cost=cost)
