"""Selective Amnesia (https://arxiv.org/abs/2305.10120): noise images for the forgotten class, replay and a Fisher penalty for the rest.

L = mean (eps - eps_theta(u_t, c_f))^2 + gamma mean (eps - eps_theta(x_t, c))^2 + lam P sum_i F_i (theta_i - theta*_i)^2
    u uniform on [-1, 1] for each pixel, or number of the latents; x drawn from the original under the other labels; no real image is used
F_i = mean over images of ( sum_t d/dtheta_i mean (eps - eps_theta(x_t, c))^2 )^2, images of every class, the forgotten one too

Scales are means over P = C H W pixels; the authors sum over them, so that their lam = 10 stands here before P F. Adam does not see the
difference but the clipping at 1 does: pixel_sum=true clips as theirs. Theirs as well, by name: fisher_range=unit (they give the Fisher
images in [0, 1] to a network for [-1, 1]), fisher_class_dropout=0.1, ema=0.9999 without a warm-up (13.5 % of the original is in it after
20,000 steps), 500 replay images a class, 5000 Fisher images, 1000 timesteps, 20,000 steps of 128 + 128 at lr 1e-4. The defaults here are
for digits, where lam = 10 forgets nothing in 400 steps and .001 does.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditkit import data, diffusion, models, sampling, training
from auditkit.errors import UserError, choose
from auditkit.unlearn import rows
from auditkit.unlearn.preparing import Preparation
from auditkit_kernels import eps_loss, noising, philox

RANGES = ("model", "unit")
FISHER_BATCH = 128  # rows of one backward pass
FISHER_STEP = 2**31 + 6  # keys its draws apart from those of training


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step; `replay` images of each class drawn from the original; the Fisher at every k-th timestep."""

    steps: int = 400
    lr: float = 1e-3
    schedule: str = "cosine"
    batch: int = 64
    lam: float = 1e-3
    gamma: float = 1.0
    replay: int = 100
    fisher_images: int = 50
    fisher_timesteps: int = 100
    fisher_range: str = "model"
    fisher_class_dropout: float = 0.1
    ema: float = 0.0
    pixel_sum: bool = False

    def __post_init__(self) -> None:
        choose("fisher range", self.fisher_range, RANGES)
        rows.check(self)
        if self.fisher_timesteps > diffusion.T:
            raise UserError(f"--fisher-timesteps must be at most {diffusion.T}, got {self.fisher_timesteps}")
        if not 0 <= self.ema < 1:
            raise UserError(f"--ema must lie in 0..1, 1 excluded, got {self.ema}")


def run(
    original: models.Model,
    dataset: data.Dataset,
    forget: tuple[int, ...],
    params: Params,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> models.Model:
    """The original with `forget` made noise; EMA weights if `ema`, else raw. Raises FloatingPointError when training diverges."""
    model, pixels = original.copy(), math.prod(original.shape)
    preparation = Preparation(state, save)
    labels = torch.arange(original.null).repeat_interleave(params.replay)
    replay = original.encode(preparation.drawn("replay", original, labels, seed=seed))
    weight = params.lam * pixels
    found = fisher(original, replay, labels, params, seed=seed, preparation=preparation) if weight else {}
    importance = {name: weight * f for name, f in found.items()}
    kept = torch.isin(labels, dataset.others(forget))
    asked = torch.tensor(forget)
    scale = float(pixels) if params.pixel_sum else 1.0

    def uniform(step: int, like: Tensor) -> Tensor:
        flat = philox.uniform((len(like), pixels), seed=seed, stream=philox.SURROGATE, step=step)
        return (2 * flat - 1).float().reshape(like.shape).to(like.device)

    batches = rows.mixed(
        (torch.zeros(len(asked), *original.shape), asked),
        (replay[kept], labels[kept]),
        batch=params.batch,
        null=model.null,
        weights=(scale, params.gamma * scale),
        marked=False,
        dropout=(0, 0),
        seed=seed,
        device=model.net.device,
        draw=uniform,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule, ema=params.ema, ema_warm_up=False)
    descend = _anchored(original.copy().net, {name: scale * f for name, f in importance.items()})
    training.fit(model.net, batches, recipe, state=preparation.state, save=preparation.save, report=report, descend=descend)
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """The ordinary loss on uniform noise under the forgotten label."""
    return training.ForgetLoss(marked=False, held="uniform")


def fisher(
    original: models.Model, x0: Tensor, labels: Tensor, params: Params, *, seed: int, preparation: Preparation | None = None
) -> dict[str, Tensor]:
    """The diagonal F by parameter name, from `fisher_images` of x0 (N, C, H, W) that every class has an equal share of.

    Fewer than 1000 timesteps stand for all: their gradients' sum is scaled up.
    """
    net = original.copy().net
    parameters = dict(net.named_parameters())
    device = next(net.parameters()).device
    abar, psi = diffusion.abar(device), diffusion.psi(0.0, device=device)
    t = torch.linspace(0, diffusion.T - 1, params.fisher_timesteps, dtype=torch.float64).round().long().to(device)
    ordinary, weight = torch.zeros(len(t), dtype=torch.bool, device=device), torch.full((len(t),), diffusion.T / len(t), device=device)
    chosen = _spread(labels, params.fisher_images)
    preparation = preparation or Preparation(None, None)
    done, total = preparation.sums("fisher", parameters)
    for k, i in enumerate(chosen.tolist()[done:], start=done):
        x = x0[i] if params.fisher_range == "model" else (x0[i] + 1) / 2
        net.zero_grad()
        for row0 in range(0, len(t), FISHER_BATCH):  # gradients add up over t
            at, step = t[row0 : row0 + FISHER_BATCH], FISHER_STEP + k
            asked = labels[i].expand(len(at))
            asked = training.drop_labels(asked, original.null, params.fisher_class_dropout, seed=seed, step=step, row0=row0).to(device)
            x_t = noising(x.expand(len(at), *x.shape).contiguous().to(device), at, abar, seed=seed, step=step, row0=row0)
            pred = net(x_t, at, class_labels=asked).sample
            one = slice(0, len(at))
            _, grad = eps_loss(pred, at, ordinary[one], weight[one], psi, seed=seed, step=step, row0=row0)
            pred.backward(grad)
        for name, p in parameters.items():
            if p.grad is not None:
                total[name] += p.grad.square() / len(chosen)
        preparation.keep("fisher", k + 1, total)
    return total


def costs(params: Params, forget_images: int, classes: int) -> dict[str, int]:
    """Network evaluations of one image by phase: forward 1, backward 2."""
    return {
        "replay": classes * params.replay * sampling.Sampler().passes,
        "fisher": 3 * params.fisher_images * params.fisher_timesteps if params.lam else 0,
        "training": params.steps * params.batch * 6,
    }


def _spread(labels: Tensor, n: int) -> Tensor:
    """Indices of n images, class by class in turn, in order."""
    rank = torch.zeros_like(labels)
    for k in range(int(labels.max()) + 1):
        mine = labels == k
        rank[mine] = torch.arange(int(mine.sum()))
    return torch.argsort(rank, stable=True)[:n]


def _anchored(start: nn.Module, importance: dict[str, Tensor]) -> training.Step:
    """The ordinary step with sum_i importance_i (theta_i - theta*_i)^2 added to loss and gradient."""
    names = list(importance)
    anchors = [p.detach() for name, p in start.named_parameters() if name in importance]

    def step_(
        net: nn.Module, batch: training.Batch, loss: training.Loss, abar: Tensor, *, seed: int | Tensor, step: int, t: Tensor | None = None
    ) -> Tensor:
        value = training.denoise_step(net, batch, loss, abar, seed=seed, step=step, t=t)
        parameters = dict(net.named_parameters())
        for name, anchor in zip(names, anchors, strict=True):
            p = parameters[name]
            pull = importance[name] * (p.detach() - anchor)
            value = value + (pull * (p.detach() - anchor)).sum()
            p.grad = 2 * pull if p.grad is None else p.grad.add_(2 * pull)
        return value

    return step_
