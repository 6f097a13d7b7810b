"""Saliency Unlearning (https://arxiv.org/abs/2310.12508): change only the weights that matter to the forgotten class.

mask:   the share `mask_ratio` of all weights with the largest |g|,  g = sum over batches of clip_1( grad of mean_b sum (eps - eps_w)^2 ),
        eps_w = (1 + w) eps_theta(x_t, c_f) - w eps_theta(x_t, null) at the original weights, one pass over the forget images
rl:     L = mean (eps_theta(x_t, c_f) - stopgrad eps_theta(x_t, c_p))^2 + alpha L_r,   c_p the class after c_f
ga:     L = - mean (eps - eps_theta(x_t, c_f))^2 + alpha L_r
        L_r = mean (eps - eps_theta(x_t, c))^2, c != f

Scales are means over pixels. The authors' code takes the mean for rl and sums for L_r, so that its alpha = 1e-3 at 3 x 32 x 32 is 3.07
here; for ga it takes sums for both: set alpha=0.001, and pixel_sum=true so that the clipping at 1 bites as theirs. Theirs as well: the
fixed next class, the moving target, label dropout .1 everywhere, clipping before masking, raw weights, 1000 steps of 128 + 128 at lr
1e-4 (the defaults here are for digits).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from auditkit import data, diffusion, models, results, training
from auditkit.errors import UserError, choose
from auditkit.unlearn import imitation, rows
from auditkit.unlearn.preparing import Preparation
from auditkit_kernels import noising, philox

OBJECTIVES = ("rl", "ga")
MASK_BATCH = 128  # rows of one gradient of the mask
MASK_STEP = 2**31 + 5  # keys its draws apart from those of training


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step; with `mask_ratio` 1 every weight may move."""

    objective: str = "rl"
    steps: int = 100
    lr: float = 1e-3
    schedule: str = "cosine"
    batch: int = 64
    alpha: float = 3.07
    mask_ratio: float = 0.5
    mask_guidance: float = 2.0
    class_dropout: float = 0.1
    pixel_sum: bool = field(default=False, metadata=results.LATER)

    def __post_init__(self) -> None:
        choose("objective", self.objective, OBJECTIVES)
        rows.check(self)
        if not 0 < self.mask_ratio <= 1:
            raise UserError(f"--mask-ratio must lie in 0..1, 0 excluded, got {self.mask_ratio}")
        if not math.isfinite(self.mask_guidance):
            raise UserError(f"--mask-guidance must be a number, got {self.mask_guidance}")


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
    """The original with `forget` unlearned; raw weights. Raises FloatingPointError with the step when training diverges."""
    model = original.copy()
    mine, my_labels = dataset.part("model", torch.tensor(forget))
    images, labels = dataset.part("model", dataset.others(forget))
    forget_x, rl = model.encode(mine), params.objective == "rl"
    preparation = Preparation(state, save)
    mask = saliency(original, forget_x, my_labels, params, seed=seed, preparation=preparation)
    scale = math.prod(model.shape) if params.pixel_sum else 1
    batches = rows.mixed(
        (forget_x, my_labels),
        (model.encode(images), labels),
        batch=params.batch,
        null=model.null,
        weights=(scale if rl else -scale, params.alpha * scale),
        marked=rl,
        dropout=(params.class_dropout, params.class_dropout),
        seed=seed,
        device=model.net.device,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    descend = _imitate(forget, model.null) if rl else training.denoise_step
    training.fit(model.net, batches, recipe, state=preparation.state, save=preparation.save, report=report, descend=descend, mask=mask)
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """rl: the distance to what the next class gives; ga: the ordinary loss, climbed. On images of the class."""
    if params.objective == "ga":
        return training.ForgetLoss(marked=False, sign=-1)
    return training.ForgetLoss(descend=_imitate(forget, null))


def _imitate(forget: tuple[int, ...], null: int) -> training.Step:
    """rl's step: forget rows follow what the same network says of the next class; a dropped label has no next one."""
    return imitation.imitating(imitation.under(torch.tensor([*following(forget, null), null])))


def following(forget: tuple[int, ...], classes: int) -> list[int]:
    """For each class the next one that is not forgotten, around the end; the identity where everything is."""
    kept = [k for k in range(classes) if k not in forget]
    return [next((k for k in (*range(c + 1, classes), *range(c)) if k in kept), c) for c in range(classes)]


def saliency(
    original: models.Model, x0: Tensor, labels: Tensor, params: Params, *, seed: int, preparation: Preparation | None = None
) -> dict[str, Tensor]:
    """True where a weight may move, by parameter name: the share `mask_ratio` of all of them with the largest guided gradient."""
    net, w = original.copy().net, params.mask_guidance
    parameters = dict(net.named_parameters())
    if params.mask_ratio == 1:
        return {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
    device = next(net.parameters()).device
    abar, preparation = diffusion.abar(device), preparation or Preparation(None, None)
    done, total = preparation.sums("mask", parameters)
    for k in range(done, -(-len(x0) // MASK_BATCH)):
        first = k * MASK_BATCH
        x, asked = x0[first : first + MASK_BATCH].to(device), labels[first : first + MASK_BATCH].to(device)
        t = training.timesteps(len(x), seed=seed, step=MASK_STEP + k).to(device)
        eps = philox.normal(x.shape, seed=seed, stream=philox.EPS, step=MASK_STEP + k, device=device)
        x_t = noising(x, t, abar, seed=seed, step=MASK_STEP + k)
        both = net(torch.cat([x_t, x_t]), torch.cat([t, t]), class_labels=torch.cat([asked, torch.full_like(asked, original.null)])).sample
        conditional, null = both.chunk(2)
        net.zero_grad()
        torch.autograd.backward((eps - ((1 + w) * conditional - w * null)).square().sum(dim=(1, 2, 3)).mean())
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for name, p in parameters.items():
            total[name] += 0 if p.grad is None else p.grad
        preparation.keep("mask", k + 1, total)
    size = torch.cat([g.abs().flatten() for g in total.values()])
    keep = torch.zeros_like(size, dtype=torch.bool)
    keep[size.topk(round(params.mask_ratio * len(size))).indices] = True
    parts = torch.split(keep, [g.numel() for g in total.values()])
    return {name: part.reshape(g.shape) for (name, g), part in zip(total.items(), parts, strict=True)}


def costs(params: Params, forget_images: int, classes: int) -> dict[str, int]:
    """Network evaluations of one image by phase: forward 1, backward 2."""
    step = params.batch * (7 if params.objective == "rl" else 6)  # rl's target is one more forward of the forget rows
    return {"mask": 0 if params.mask_ratio == 1 else 6 * forget_images, "training": params.steps * step}
