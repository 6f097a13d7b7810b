"""One training loop for everything that trains: pretrain, retrain, unlearn, relearn, finetune.

They differ in the rows of a batch (`Batch`) and in the numbers of a `Recipe`. Every draw is keyed by (seed, step), so
the loop has no state beyond weights, optimizer and averages: resumed from a checkpoint it ends with the same bytes.
"""

import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from auditkit import diffusion, precision
from auditkit_kernels import eps_loss, noising, philox

CHECKPOINT_SECONDS = 10.0


SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: Adam for `steps` steps, constant `lr` or one cosine cycle with a warm-up of 10 %."""

    steps: int
    lr: float
    seed: int
    schedule: str = "constant"
    weight_decay: float = 0.0
    ema: float = 0.0
    ema_warm_up: bool = True  # an average that starts from random weights forgets them; one that starts from a model keeps them
    clip: float = 1.0

    def lr_at(self, step: int) -> float:
        if self.schedule == "constant":
            return self.lr
        warm = max(1, round(0.1 * self.steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


@dataclass(frozen=True)
class Batch:
    """Rows of one step: x0 (B, C, H, W) in [-1, 1], labels (B,), forget (B,) bool, weight (B,) summing to the loss's weights.

    Methods with a step of their own (unlearn/imitation.py) need the rows to forget before all others.
    """

    x0: Tensor
    labels: Tensor
    forget: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device) for t in (self.x0, self.labels, self.forget, self.weight)))

    @functools.cached_property
    def n_forget(self) -> int:
        """How many rows are to forget: the first ones. Waits for the device. Raises ValueError where they are others."""
        marked: list[bool] = self.forget.tolist()
        n = sum(marked)
        if not all(marked[:n]):
            raise ValueError("expected the rows to forget before all others")
        return n


@dataclass(frozen=True)
class Loss:
    """Which eps loss: psi (T,) for forget rows, and their target (see auditkit_kernels.eps_loss)."""

    psi: Tensor = field(default_factory=lambda: diffusion.psi(0.0))
    target: str = "terminal"


def draw_rows(images: Tensor, labels: Tensor, n: int, *, seed: int, step: int, row0: int = 0) -> tuple[Tensor, Tensor]:
    """n rows drawn with replacement: images float (n, C, H, W), labels (n,). Rows are keyed by row0, row0 + 1, ..."""
    u = philox.uniform((n, 1), seed=seed, stream=philox.DATA, step=step, row0=row0)[:, 0]
    index = (u * len(images)).long().clamp_(max=len(images) - 1).to(images.device)
    return images[index], labels[index]


def drop_labels(labels: Tensor, null: int, rate: float, *, seed: int, step: int, row0: int = 0) -> Tensor:
    """Labels with a share `rate` replaced by the null class: what classifier-free guidance needs (https://arxiv.org/abs/2207.12598)."""
    if rate == 0:
        return labels
    u = philox.uniform((len(labels), 1), seed=seed, stream=philox.DROPOUT, step=step, row0=row0)[:, 0].to(labels.device)
    return torch.where(u < rate, torch.full_like(labels, null), labels)


def timesteps(n: int, *, seed: int, step: int) -> Tensor:
    """n timesteps, uniform on 0..T-1, int64 (n,)."""
    u = philox.uniform((n, 1), seed=seed, stream=philox.TIMESTEP, step=step)[:, 0]
    return (u * diffusion.T).long().clamp_(max=diffusion.T - 1)


def denoise_step(
    net: nn.Module, batch: Batch, loss: Loss, abar: Tensor, *, seed: int | Tensor, step: int, t: Tensor | None = None
) -> Tensor:
    """One forward and backward over all rows; gradients are left in the network. Returns the weighted loss, 0-d float32.

    `t` (B,) and a prepared key in place of `seed` (philox.key) stand where the host must not draw: inside a recording (captured.py).
    """
    if t is None:
        t = timesteps(len(batch.x0), seed=int(seed), step=step).to(batch.x0.device)
    x_t = noising(batch.x0, t, abar, seed=seed, step=step)
    with precision.cast(net):
        pred = net(x_t, t, class_labels=batch.labels).sample
    rows, grad = eps_loss(pred, t, batch.forget, batch.weight, loss.psi, seed=seed, step=step, target=loss.target, x_t=x_t, abar=abar)
    pred.backward(grad)
    return (rows * batch.weight).sum()


@dataclass
class State:
    """What a checkpoint holds: the step that comes next, and every tensor that the loop changes."""

    step: int
    tensors: dict[str, Tensor]


Save = Callable[[State], None]
Report = Callable[[int, float], None]
Step = Callable[..., Tensor]  # denoise_step, or a method's own with its signature; one that takes no `t` is never recorded
HELD = ("class", "others", "uniform")


@dataclass(frozen=True)
class ForgetLoss:
    """What a method did to its forget rows, so that an attacker can undo it.

    Their x_0 were images of the `class`, of the `others` or `uniform` noise; they went down `loss` (up where `sign` is -1) by the step
    `descend`; with `marked` False the target was the noise that had been added, as in ordinary training.
    """

    loss: Loss = field(default_factory=Loss)
    marked: bool = True
    sign: float = 1.0
    held: str = "class"
    descend: Step = denoise_step


def fit(
    net: nn.Module,
    batches: Callable[[int], Batch],
    recipe: Recipe,
    *,
    loss: Loss | None = None,
    state: State | None = None,
    save: Save | None = None,
    report: Report | None = None,
    at: dict[int, Callable[[], None]] | None = None,
    descend: Step = denoise_step,
    mask: Mapping[str, Tensor] | None = None,
) -> list[float]:
    """Trains what requires a gradient in `net`, in place, and returns the losses of the steps that this call ran.

    `batches(step)` gives the rows; `save` gets a checkpoint at the start, every 10 s and when interrupted, always of
    weights that have just given a finite loss (recorded, captured.py: whose predecessors have); `at[k]` runs when k steps
    are done (0 included). With `recipe.ema` the averaged weights are in the network at the end. `descend` computes loss and gradients;
    numbers whose `mask` (bool, by parameter name) is False stay as they are.
    Raises FloatingPointError with the step at the first loss that is not finite, KeyboardInterrupt after a last checkpoint.
    """
    from auditkit import captured  # which imports this module

    loss = loss or Loss()
    device = next(net.parameters()).device
    loss = Loss(loss.psi.to(device), loss.target)
    abar = diffusion.abar(device)
    precision.laid_out(net)  # before the optimizer: its moments lie as the weights do
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    recorded = captured.wanted(device, descend)
    make = captured.optimizer_for if recorded else _optimizer
    optimizer = make(parameters, recipe.lr, recipe.weight_decay)
    average = {name: p.detach().clone() for name, p in parameters.items()} if recipe.ema else {}
    start = 0
    if state is not None:
        start = state.step
        _restore(state, parameters, optimizer, average)
    losses: list[float] = []
    step_ = None
    if recorded:
        step_ = captured.Captured(net, parameters, optimizer, loss, abar, clip=recipe.clip, start=start, mask=mask, descend=descend)
    saved = -math.inf  # the start is saved at once: a run that diverges always has a good checkpoint
    net.train()
    if report:
        report(start, math.nan)  # what comes before the first step is done
    with _deferred_interrupt() as interrupted:
        for step in range(start, recipe.steps):
            if at and step in at:
                _outside(net, at[step])
            if step_ is None:
                losses.append(_gradients(net, batches(step).to(device), loss, abar, descend, recipe.seed, step))
            due = interrupted() or time.monotonic() - saved > CHECKPOINT_SECONDS
            if step_ is not None and due:
                losses = step_.look()
            if save and due:  # these weights, or recorded the ones before them, have just given a finite loss
                save(_snapshot(step, parameters, optimizer, average))
                saved = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
            if step_ is None:
                _update(parameters, optimizer, recipe.lr_at(step), recipe.clip, mask)
            else:
                step_(batches(step), recipe.lr_at(step), seed=recipe.seed, step=step)
            if recipe.ema:
                decay = min(recipe.ema, (1 + step) / (10 + step)) if recipe.ema_warm_up else recipe.ema
                torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
            if report:
                report(step + 1, losses[-1] if losses else math.nan)
    losses = step_.look() if step_ else losses
    if recipe.ema:
        for name, p in parameters.items():
            p.data.copy_(average[name])
    if not all(bool(torch.isfinite(p).all()) for p in parameters.values()):
        raise FloatingPointError(f"weights are not finite after step {recipe.steps - 1}: training diverged; try a smaller --lr")
    if at and recipe.steps in at:
        _outside(net, at[recipe.steps])
    net.eval()
    return losses


def _optimizer(parameters: Mapping[str, nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    # Lists at once: the same bits as one tensor after the other, 1.8 ms instead of 2.3 for digits (fused .7, and other bits); and one more
    # copy of the weights: on a CPU for small networks alone.
    small = sum(p.numel() for p in parameters.values()) < precision.LARGE
    return torch.optim.AdamW(list(parameters.values()), lr=lr, weight_decay=weight_decay, foreach=True if small else None)


def _gradients(net: nn.Module, batch: Batch, loss: Loss, abar: Tensor, descend: Step, seed: int, step: int) -> float:
    """The loss of one step, its gradients left in the network. Raises FloatingPointError where it is not finite."""
    net.zero_grad(set_to_none=True)
    value = float(descend(net, batch, loss, abar, seed=seed, step=step))
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value} at step {step}: training diverged; try a smaller --lr")
    return value


def _update(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, lr: float, clip: float, mask: Mapping[str, Tensor] | None
) -> None:
    """Clips, masks and steps."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    nn.utils.clip_grad_norm_(parameters.values(), clip)
    for name in mask or ():
        parameters[name].grad.mul_(mask[name])  # type: ignore[index, union-attr]
    optimizer.step()


def _outside(net: nn.Module, call: Callable[[], None]) -> None:
    net.eval()
    call()
    net.train()


def _snapshot(step: int, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> State:
    tensors = {f"weights/{name}": p.detach() for name, p in parameters.items()}
    tensors |= {f"average/{name}": a for name, a in average.items()}
    for name, p in parameters.items():
        tensors |= {f"optimizer/{key}/{name}": v for key, v in optimizer.state[p].items()}
    return State(step, tensors)


def _restore(state: State, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> None:
    for name, p in parameters.items():
        p.data.copy_(state.tensors[f"weights/{name}"])
        if state.step:  # before the first step Adam has no state
            moments = {key: torch.empty_like(p).copy_(state.tensors[f"optimizer/{key}/{name}"]) for key in ("exp_avg", "exp_avg_sq")}
            count = state.tensors[f"optimizer/step/{name}"].clone()  # Adam keeps it on the CPU, unless a recording counts
            on = p.device if optimizer.defaults.get("capturable") else count.device
            optimizer.state[p] = {"step": count.to(on), **moments}
    for name, a in average.items():
        a.copy_(state.tensors[f"average/{name}"])


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C and SIGTERM only raise a flag, so that a step and its checkpoint are never cut in two."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return
    previous = {s: signal.signal(s, lambda *_: flag.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag.is_set
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
