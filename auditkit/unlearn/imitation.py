"""The step of methods whose forget rows follow another prediction instead of noise: SalUn's next class, ESD's negative guidance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from auditkit import precision, training
from auditkit_kernels import eps_loss, noising

Says = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # (network, x_t, t, labels) to eps


def imitating(says: Says) -> training.Step:
    """A step in which forget rows go down mean((eps_theta(x_t, c) - says(...))^2), the target held fixed; the others the ordinary loss."""

    def step_(
        net: nn.Module, batch: training.Batch, loss: training.Loss, abar: Tensor, *, seed: int | Tensor, step: int, t: Tensor | None = None
    ) -> Tensor:
        if t is None:
            t = training.timesteps(len(batch.x0), seed=int(seed), step=step).to(batch.x0.device)
        x_t = noising(batch.x0, t, abar, seed=seed, step=step)
        n = batch.n_forget  # and not the mask: how many rows it picks is known to the device alone, and a recording cannot ask
        with precision.cast(net):
            with torch.no_grad():
                wanted = says(net, x_t[:n], t[:n], batch.labels[:n]).float()
            pred = net(x_t, t, class_labels=batch.labels).sample
        rows, grad = eps_loss(pred, t, torch.zeros_like(batch.forget), batch.weight, loss.psi, seed=seed, step=step)
        off = pred[:n].detach().float() - wanted
        rows[:n] = off.square().flatten(1).mean(1)
        grad[:n] = (batch.weight[:n, None, None, None] * 2 / pred[0].numel() * off).to(grad.dtype)
        pred.backward(grad)
        return (rows * batch.weight).sum()

    return step_


def under(after: Tensor) -> Says:
    """What the same network says under another label: `after` (labels,) gives the label to ask for each."""
    copies: dict[torch.device, Tensor] = {}  # made once: a recording cannot hold a copy from the host

    def says(net: nn.Module, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if labels.device not in copies:
            copies[labels.device] = after.to(labels.device)
        said: Tensor = net(x_t, t, class_labels=copies[labels.device][labels]).sample
        return said

    return says
