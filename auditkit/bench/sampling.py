"""Guided sampling: our sampler, diffusers' DDIM scheduler in a batched loop, and the peers' sampler, at equal steps."""

import os
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from auditkit import diffusion, models, precision, sampling
from auditkit.bench import nets, peers, timing
from auditkit.bench.timing import Arm
from auditkit.unet import UNet
from auditkit_kernels import philox

EXACT, HALF = 2e-3, 3e-2  # of the largest value


def run(size: str, repeats: int) -> dict[str, Any]:
    """Seconds for `images` images by each arm; ours and diffusers' must be the same images."""
    work = nets.work(size)
    steps = 25 if size == "digits" or torch.cuda.is_available() else 4
    how, n, model = sampling.Sampler(steps=steps), work.images, work.model
    device = model.net.device
    labels = torch.full((n,), 2)
    x = philox.normal((n, *model.shape), seed=0, stream=philox.X_T, device=device)

    plain = model.copy()  # weights in torch's own order: what the others would use
    theirs = replace(plain, net=diffusers_own(plain.net))
    here = labels.to(device)

    def draw(capture: str) -> Tensor:
        with mock.patch.dict(os.environ, AUDITKIT_CAPTURE=capture):  # whatever the user set: the arms are to differ
            return sampling.denoise(model, labels, how, seed=0, first=0)

    def ours() -> Tensor:
        return draw("")

    def recorded() -> Tensor:
        return draw("1")

    def diffusers() -> Tensor:
        return by_diffusers(theirs, x, here, steps, how.guidance)

    wrong = check(model, theirs, x, here, labels, how)
    if wrong:
        return {"what": "sampling", "size": size, "wrong": wrong}
    arms: dict[str, Arm] = {
        "auditkit": ours,
        "diffusers' DDIM loop": timing.as_torch_comes(diffusers),
        "peers' sampler": timing.as_torch_comes(lambda: peers.sample(plain.net, x, here, model.null, steps=steps, w=how.guidance)),
    }
    if torch.cuda.is_available():
        wrong = timing.close("the recorded images", [recorded() for _ in range(3)][-1], ours(), HALF)
        if wrong:
            return {"what": "sampling", "size": size, "wrong": wrong}
        arms["auditkit, recorded"] = recorded
    rows = timing.alternate(arms, repeats=repeats)
    return {
        "what": "sampling",
        "size": size,
        "parameters": model.parameters,
        "images": n,
        "steps": steps,
        "precision": precision.name(model.net),
        "arms": rows,
        "times_ours": timing.ratios(rows, "auditkit"),
    }


def diffusers_own(net: UNet2DModel) -> UNet2DModel:
    """The same weights in the class that users of diffusers have, where there is one: ours of the same architecture is a little faster."""
    if type(net) is not UNet:
        return net
    own = UNet2DModel.from_config(net.config).to(net.device)
    own.load_state_dict(net.state_dict())
    return own.eval()


@torch.no_grad()
def check(model: models.Model, plain: models.Model, x: Tensor, here: Tensor, labels: Tensor, how: sampling.Sampler) -> str | None:
    """Why ours is not the same sampler: equal images from one float32 network, and a network whose eps is the float32 one's.

    Images themselves are compared in float32 only: at t = 999 an error of eps is multiplied by 158 on its way to x_0.
    """

    def eps(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        made: Tensor = plain.net(x, t, class_labels=labels).sample
        return made

    found = sampling.denoise(model, labels, how, seed=0, first=0, eps=eps)
    wrong = timing.close("diffusers' images", found, by_diffusers(plain, x, here, how.steps, how.guidance), EXACT)
    t = torch.full_like(here, 500)
    return wrong or timing.close("eps", sampling.network(model)(x, t, here), eps(x, t, here), HALF if precision.half(model.net) else EXACT)


@torch.no_grad()
def by_diffusers(model: models.Model, x: Tensor, labels: Tensor, steps: int, w: float) -> Tensor:
    """Our default sampler's settings in diffusers' scheduler, both branches in one call, float32."""
    scheduler = DDIMScheduler(
        num_train_timesteps=diffusion.T,
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(steps)
    branches = torch.cat([labels, torch.full_like(labels, model.null)])
    for t in scheduler.timesteps:
        eps, null = model.net(torch.cat([x, x]), t.to(x.device), class_labels=branches).sample.chunk(2)
        x = scheduler.step((1 + w) * eps - w * null, int(t), x, use_clipped_model_output=True).prev_sample
    return x.cpu()
