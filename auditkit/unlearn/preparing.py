"""What a method computes before its first step (generated images, a Fisher, a mask), kept in its checkpoints.

Killed in the middle of it, the method goes on from there; killed while training, it does not compute it again.
"""

import time

import torch
from torch import Tensor

from auditkit import models, sampling, training

PREFIX = "prepared/"
BATCH = 250  # images drawn between two looks at the clock


class Preparation:
    """Tensors by name, from the checkpoint `state` if there is one, that go into every checkpoint that `save` writes."""

    def __init__(self, state: training.State | None, save: training.Save | None) -> None:
        stored = state.tensors if state else {}
        self._kept = {name.removeprefix(PREFIX): t for name, t in stored.items() if name.startswith(PREFIX)}
        self._write, self._written = save, time.monotonic()
        trained = {name: t for name, t in stored.items() if not name.startswith(PREFIX)}
        self.state = training.State(state.step, trained) if state and trained else None

    def sums(self, name: str, like: dict[str, Tensor]) -> tuple[int, dict[str, Tensor]]:
        """How many items of the sum `name` are done, and what they add up to: zeros `like` the given tensors at first."""
        done = int(self._kept.get(f"{name}/done", torch.tensor(0)))
        return done, {key: self._kept[f"{name}/{key}"].to(t.device) if done else torch.zeros_like(t) for key, t in like.items()}

    def keep(self, name: str, done: int, tensors: dict[str, Tensor]) -> None:
        """Holds what `done` items add up to, and writes it where the last checkpoint is old."""
        self._kept |= {f"{name}/{key}": t for key, t in tensors.items()} | {f"{name}/done": torch.tensor(done)}
        if self._write and time.monotonic() - self._written > training.CHECKPOINT_SECONDS:
            self.save(training.State(0, {}))

    def save(self, state: training.State) -> None:
        """What the training loop calls in place of the stage's own: its tensors and these."""
        if self._write:
            self._write(training.State(state.step, state.tensors | {f"{PREFIX}{name}": t for name, t in self._kept.items()}))
        self._written = time.monotonic()

    def drawn(self, name: str, original: models.Model, labels: Tensor, *, seed: int) -> Tensor:
        """Images uint8 (N, C, H, W) by the original for `labels` (N,), from seeds that no judge looks at (sampling.OWN)."""
        found = [self._kept[f"{name}/images"]] if f"{name}/images" in self._kept else []
        for at in range(sum(map(len, found)), len(labels), BATCH):
            found.append(sampling.sample(original, labels[at : at + BATCH], sampling.Sampler(), seed=seed + sampling.OWN, first=at))
            self.keep(name, min(at + BATCH, len(labels)), {"images": torch.cat(found)})
        return torch.cat(found)
