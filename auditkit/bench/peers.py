"""The loops of Selective Amnesia and SalUn, re-created from our own parts: their order of work in eager float32, nothing fused.

Two forwards a step (forget, then remain), each row's loss summed over pixels, Adam without a fused kernel, the loss read back
after every step; sampling by two passes a step, the whole trajectory of x_t and x_0 kept on the host. What they compute is what we do.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from auditkit import diffusion
from auditkit.training import Batch
from auditkit_kernels import philox


def train(net: nn.Module, batches: Callable[[int], Batch], steps: int, lr: float, *, psi: Tensor, seed: int) -> list[float]:
    """SAFEMax's loss in the peers' training loop; the losses. Trains `net` in place."""
    device = next(net.parameters()).device
    abar = diffusion.abar(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, foreach=False, fused=False)
    net.train()
    losses = []
    for step in range(steps):
        batch = batches(step).to(device)
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for wanted in (True, False):
            total = total + _loss(net, batch, batch.forget == wanted, psi, abar, seed=seed, step=step)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=False)
        optimizer.step()
        losses.append(total.item())
    return losses


def _loss(net: nn.Module, batch: Batch, rows: Tensor, psi: Tensor, abar: Tensor, *, seed: int, step: int) -> Tensor:
    """One branch. Draws are keyed as ours are, so that both loops see the same noise."""
    x0, n = batch.x0, len(batch.x0)
    u = philox.uniform((n, 1), seed=seed, stream=philox.TIMESTEP, step=step)[:, 0]
    t = (u * diffusion.T).long().clamp_(max=diffusion.T - 1).to(x0.device)
    eps = philox.normal(x0.shape, seed=seed, stream=philox.EPS, step=step, device=x0.device)
    target = torch.where(
        batch.forget[:, None, None, None], philox.normal(x0.shape, seed=seed, stream=philox.EPS_T, step=step, device=x0.device), eps
    )
    at = abar[t][:, None, None, None]
    x_t = x0 * at.sqrt() + eps * (1 - at).sqrt()
    out = net(x_t[rows], t[rows].float(), class_labels=batch.labels[rows]).sample
    summed = (target[rows] - out).square().sum(dim=(1, 2, 3))
    scale = torch.where(batch.forget[rows], psi.to(x0.device)[t[rows]], 1.0) * batch.weight[rows] / x0[0].numel()
    total: Tensor = (scale * summed).sum()
    return total


@torch.no_grad()
def sample(net: nn.Module, x: Tensor, labels: Tensor, null: int, *, steps: int, w: float, eta: float = 0.0) -> Tensor:
    """Images float (N, C, H, W) from x_T by their generalized steps: evenly spaced from 0, unclipped, two passes, all on the host."""
    abar = torch.cat([torch.ones(1), diffusion.abar()]).to(x.device)
    times = list(range(0, diffusion.T, diffusion.T // steps))
    kept_x, kept_x0 = [x.cpu()], []
    nulls = torch.full_like(labels, null)
    for now, after in zip(reversed(times), reversed([-1, *times[:-1]]), strict=True):
        t = torch.full((len(x),), float(now), device=x.device)
        at, ap = abar[now + 1], abar[after + 1]
        here = kept_x[-1].to(x.device)
        conditional = net(here, t, class_labels=labels).sample
        eps = (1 + w) * conditional - w * net(here, t, class_labels=nulls).sample if w else conditional
        x0 = (here - eps * (1 - at).sqrt()) / at.sqrt()
        kept_x0.append(x0.cpu())
        sigma = eta * ((1 - at / ap) * (1 - ap) / (1 - at)).sqrt()
        kept_x.append((ap.sqrt() * x0 + sigma * torch.randn_like(x) + ((1 - ap) - sigma**2).sqrt() * eps).cpu())
    return kept_x[-1]
