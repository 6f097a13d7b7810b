"""A training step, and a sampler's loop, on fixed buffers, which a GPU records once as a CUDA graph and replays.

Rows, timesteps, key and learning rate are copied into the same memory before each step; losses stay on the device until somebody needs
them. What is recorded: gradients to none, forward, weighted loss, backward, clipping, mask, fused AdamW. The average of the weights (EMA)
follows outside, its decay changes with the step. On a CPU the same step runs without a recording, which is how it is tested there.

The sampler's loop is one recording from x_T to x_0 for each network, sampler and batch size: only x_T, labels and keys are copied in.

Off unless AUDITKIT_CAPTURE=1: no GPU has run it yet (docs/results).
"""

import inspect
import math
import os
import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from auditkit import training
from auditkit_kernels import philox

SYNC = 25  # steps between two looks at the losses
Loop = Callable[..., Tensor]  # sampling.Loop
_RECORDED: MutableMapping[nn.Module, dict[Any, "Images"]] = weakref.WeakKeyDictionary()
WARM_UP = 3  # steps before the recording: optimizer state, cuBLAS and cuDNN workspaces are allocated in them


def wanted(device: torch.device, descend: training.Step) -> bool:
    """Whether training records its step: on a GPU, for a step that lets others draw its timesteps, when it was asked for."""
    return os.environ.get("AUDITKIT_CAPTURE") == "1" and device.type == "cuda" and "t" in inspect.signature(descend).parameters


class Captured:
    """One optimizer step as a call: `step(batch, lr, seed=..., step=...)`; `look()` brings the losses so far to the host."""

    def __init__(
        self,
        net: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        loss: training.Loss,
        abar: Tensor,
        *,
        clip: float,
        start: int = 0,
        mask: Mapping[str, Tensor] | None = None,
        descend: training.Step = training.denoise_step,
    ) -> None:
        self.start, self.descend = start, descend
        self.net, self.parameters, self.optimizer, self.loss, self.abar, self.clip = net, parameters, optimizer, loss, abar, clip
        self.mask = {name: m.to(abar.device) for name, m in (mask or {}).items()}
        self.batch: training.Batch
        self.waiting: list[Tensor] = []
        self.losses: list[float] = []
        self.graph: torch.cuda.CUDAGraph | None = None
        self.done = 0

    def __call__(self, batch: training.Batch, lr: float, *, seed: int, step: int) -> None:
        """Raises ValueError for rows of another shape than the first ones, or others to forget (a recording has one of each),
        FloatingPointError as `look`, every SYNC steps."""
        if len(self.waiting) >= SYNC:
            self.look()
        self._load(batch, lr, seed, step)
        if self.graph is not None:
            self.graph.replay()
        elif self.abar.device.type != "cuda" or self.done < WARM_UP:
            self._aside()
        else:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run()
            self.graph.replay()  # recording ran nothing
        self.done += 1
        self.waiting.append(self.value.clone())

    def look(self) -> list[float]:
        """The loss of every step so far: the only wait for the device. Raises FloatingPointError with the first step
        whose loss is not finite."""
        if self.waiting:
            self.losses.extend(torch.stack(self.waiting).tolist())
            self.waiting.clear()
        wrong = next((k for k, value in enumerate(self.losses) if not math.isfinite(value)), None)
        if wrong is not None:
            raise FloatingPointError(
                f"the loss is {self.losses[wrong]} at step {self.start + wrong}: training diverged; try a smaller --lr"
            )
        return self.losses

    def _load(self, batch: training.Batch, lr: float, seed: int, step: int) -> None:
        device = self.abar.device
        t = training.timesteps(len(batch.x0), seed=seed, step=step)
        key = philox.key(seed, step, device=device)
        if not hasattr(self, "batch"):
            self.batch, self.t, self.key = batch.to(device), t.to(device), key
            self.value = torch.zeros((), device=device)
            self.marked = batch.forget
        elif batch.x0.shape != self.batch.x0.shape:
            raise ValueError(f"expected rows {tuple(self.batch.x0.shape)}, as in the first step, found {tuple(batch.x0.shape)}")
        elif batch.forget is not self.marked and not torch.equal(batch.forget, self.marked):  # how many they are is recorded
            raise ValueError("expected the same rows to forget as in the first step")
        for name in ("x0", "labels", "weight"):
            getattr(self.batch, name).copy_(getattr(batch, name), non_blocking=True)
        self.t.copy_(t, non_blocking=True)
        self.key.copy_(key)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)

    def _aside(self) -> None:
        """A step that is not recorded; on a GPU on a stream of its own, as recordings are."""
        if self.abar.device.type != "cuda":
            return self._run()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run()
        torch.cuda.current_stream().wait_stream(stream)

    def _run(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        value = self.descend(self.net, self.batch, self.loss, self.abar, seed=self.key, step=0, t=self.t)
        nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        for name, m in self.mask.items():
            grad = self.parameters[name].grad
            if grad is not None:
                grad.mul_(m)
        self.optimizer.step()
        self.value.copy_(value)


def sampling_wanted(net: nn.Module, device: torch.device) -> bool:
    """Whether the sampler's loop is recorded: on a GPU, when it was asked for, for a network without hooks: a replay calls none, and an
    attack's count of evaluations is one."""
    return os.environ.get("AUDITKIT_CAPTURE") == "1" and device.type == "cuda" and not net._forward_hooks


class Images:
    """A sampler's whole loop on fixed buffers: the first call runs it, the second records it, every later one replays it."""

    def __init__(self, loop: Loop, x: Tensor, branches: Tensor, steps: int) -> None:
        self.loop = loop  # and not eps: it holds the network, whose life decides that of its recordings
        self.x, self.branches = torch.empty_like(x), torch.empty_like(branches)
        self.keys = torch.zeros(steps, 3, dtype=torch.int64, device=x.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0

    def __call__(self, eps: Any, x: Tensor, branches: Tensor, keys: Sequence[tuple[int, int, int]]) -> Tensor:
        """x_0 (B, C, H, W) of its own memory."""
        self.x.copy_(x)
        self.branches.copy_(branches)
        self.keys.copy_(torch.stack([philox.key(*key, device="cpu") for key in keys]))
        if self.graph is None and self.calls and x.device.type == "cuda":
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run(eps)
        if self.graph is not None:
            self.graph.replay()
        else:
            self._run(eps)
        self.calls += 1
        return self.made.clone()

    def _run(self, eps: Any) -> None:
        self.made = self.loop(self.x, self.branches, eps, list(self.keys))


def images(net: nn.Module, loop: Loop, eps: Any, x: Tensor, branches: Tensor, keys: Sequence[tuple[int, int, int]]) -> Tensor:
    """x_0 by the recording of this network, sampler and shape, made where there is none. It reads the network's weights where they lie, so
    it holds for weights that training changes in place."""
    known = _RECORDED.setdefault(net, {})
    key = (loop, tuple(x.shape), x.dtype)
    if key not in known:
        known[key] = Images(loop, x, branches, len(keys))
    return known[key](eps, x, branches, keys)


def optimizer_for(parameters: Mapping[str, nn.Parameter], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that a recording can hold: its learning rate and step count are tensors on the device."""
    device = next(iter(parameters.values())).device
    rate, gpu = torch.tensor(lr, device=device), device.type == "cuda"
    if gpu:
        return torch.optim.AdamW(list(parameters.values()), lr=rate, weight_decay=weight_decay, fused=True, capturable=True)
    return torch.optim.AdamW(list(parameters.values()), lr=rate, weight_decay=weight_decay)
