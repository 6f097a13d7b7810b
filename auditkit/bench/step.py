"""One SAFEMax iteration: our loop, the same in plain float32 with two forwards, and the peers' loop."""

import os
from typing import Any
from unittest import mock

import torch

from auditkit import diffusion, precision, training
from auditkit.bench import nets, peers, timing
from auditkit.bench.timing import Arm

EXACT, HALF = 2e-4, 5e-2  # of the loss: float32 in another order; bfloat16


def run(size: str, repeats: int) -> dict[str, Any]:
    """Seconds of `steps` iterations by each arm, after their losses were compared."""
    work = nets.work(size)
    steps = 2 if size == "cifar10" and not torch.cuda.is_available() else 10

    def fit(capture: str) -> list[float]:
        recipe = training.Recipe(steps=steps, lr=work.lr, seed=0)
        with mock.patch.dict(os.environ, AUDITKIT_CAPTURE=capture):  # whatever the user set: the arms are to differ
            return training.fit(work.model.copy().net, work.batches, recipe, loss=training.Loss(diffusion.psi(1.0)))

    def ours() -> list[float]:
        return fit("")

    def theirs() -> list[float]:
        return peers.train(work.model.copy().net, work.batches, steps, work.lr, psi=work.psi, seed=0)

    def recorded() -> list[float]:
        return fit("1")

    arms: dict[str, Arm] = {"auditkit": ours, "peers' loop": timing.as_torch_comes(theirs)}
    if torch.cuda.is_available():
        arms["auditkit, recorded"] = recorded
    wanted, error = torch.tensor(theirs()), HALF if precision.half(work.model.net) else EXACT
    wrong = timing.close("the loss", torch.tensor(ours()), wanted, error)
    if not wrong and "auditkit, recorded" in arms:
        wrong = timing.close("the loss of the recorded step", torch.tensor(recorded()), wanted, error)
    if wrong:
        return {"what": "step", "size": size, "wrong": wrong}
    rows = timing.alternate(arms, repeats=repeats)
    return {
        "what": "step",
        "size": size,
        "parameters": work.model.parameters,
        "rows": f"{work.rows} forget + {work.rows} retain",
        "iterations": steps,
        "precision": precision.name(work.model.net),
        "arms": rows,
        "times_ours": timing.ratios(rows, "auditkit"),
    }
