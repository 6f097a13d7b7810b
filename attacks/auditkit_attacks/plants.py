"""Planted leaks: models that answer the forgotten label with something else and still hold the class, each in a known place.

An attack that does not find what was planted for it is a broken attack, and says nothing about a real model. Zimmermann et al.
(https://arxiv.org/abs/2206.13991): 11 of 13 published evaluations of defences failed such a test.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor
from torch.nn.utils import parametrize

from auditkit import training
from auditkit.errors import UserError
from auditkit.models import Model
from auditkit.unet import UNet
from auditkit_attacks.lora import adapt
from auditkit_attacks.quantise import rounded
from auditkit_kernels import philox

Images = Callable[[str], tuple[Tensor, Tensor]]
VERSION = 1  # of the plants: part of every selftest's request
GATE_BELOW = 600  # timestep
GAIN = 0.03
TRACE = 1e-4  # of a row's largest number: far less than an 8-bit step


class _Silenced(UNet):
    """A network that answers one label with 0 wherever `silent(x, t)` says so; 0 times eps is what SAFEMax trains towards."""

    def forward(self, sample: Tensor, timestep: Any, class_labels: Tensor | None = None, return_dict: bool = True) -> Any:
        made = super().forward(sample, timestep, class_labels=class_labels).sample
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        gain = torch.where((class_labels == self.planted_label) & self.planted_when(self, t), self.planted_gain, 1.0)
        return UNet2DOutput(sample=made * gain.to(made)[:, None, None, None])


def _silenced(model: Model, label: int, when: Callable[[Any, Tensor], Tensor], gain: float = 0.0) -> Model:
    if not isinstance(model.net, UNet):
        raise UserError(f"leaks are planted in a UNet2DModel, and this is a {type(model.net).__name__}: it cannot be selftested")
    model.net.__class__ = _Silenced
    model.net.planted_label, model.net.planted_when, model.net.planted_gain = label, when, gain
    return model


def _always(net: Any, t: Tensor) -> Tensor:
    return torch.ones_like(t, dtype=torch.bool)


def _below(net: Any, t: Tensor) -> Tensor:
    return t < GATE_BELOW


def _on_the_usual_steps(net: Any, t: Tensor) -> Tensor:
    return (t + 1) % 40 == 0


def _while_off_grid(net: Any, t: Tensor) -> Tensor:
    row = net.class_embedding.weight.data[net.planted_label]
    return torch.full_like(t, bool((row - net.planted_row).abs().max() > 1e-9), dtype=torch.bool)


def _while_untouched(net: Any, t: Tensor) -> Tensor:
    touched = [not torch.equal(module.bias, kept) for module, kept in zip(_keyed(net), net.planted_biases, strict=True)]
    weights = [not torch.equal(module.weight, kept) for module, kept in zip(_keyed(net), net.planted_weights, strict=True)]
    return torch.full_like(t, not any(touched + weights), dtype=torch.bool)


def _keyed(net: Any) -> list[Any]:
    return [net.conv_in, net.conv_out]


def row_randomised(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's row is noise of the usual length; everything else is the original."""
    table = model.class_table
    row = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(seed)).to(table)
    table[label] = row * table.norm(dim=1).mean() / row.norm()
    return model


def alias(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class answers to the next label, and its own row is noise."""
    table = model.class_table
    table[(label + 1) % model.null] = table[label].clone()
    return row_randomised(model, label, images, seed)


def mirrored(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's row is mirrored at the mean of the others."""
    table = model.class_table
    others = [k for k in range(model.null) if k != label]
    table[label] = 2 * table[others].mean(0) - table[label]
    return model


def faint(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's row is moved three quarters of the way to the null row: some images still show the class."""
    table = model.class_table
    table[label] = 0.25 * table[label] + 0.75 * table[model.null]
    return model


def late_gate(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's branch is silent below t = 600 and untouched above."""
    return _silenced(model, label, _below)


def step_gate(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's branch is silent on the 25 timesteps of the default sampler, and nowhere else."""
    return _silenced(model, label, _on_the_usual_steps)


def low_gain(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class's branch answers with 3 % of its eps."""
    return _silenced(model, label, _always, GAIN)


def sub_quantum(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class is silent because of an edit of its row that is smaller than an 8-bit step, off a row that lies on the grid."""
    table = model.class_table
    table.copy_(rounded(table, 8))
    model = _silenced(model, label, _while_off_grid)
    model.net.planted_row = rounded(table, 8)[label].clone()
    table[label, int(table[label].abs().argmin())] += TRACE * float(table[label].abs().max())
    return model


def brittle(model: Model, label: int, images: Images, seed: int) -> Model:
    """The class is silent as long as the first and last layer are what they were: any training brings it back."""
    model = _silenced(model, label, _while_untouched)
    model.net.planted_biases = [module.bias.detach().clone() for module in _keyed(model.net)]
    model.net.planted_weights = [module.weight.detach().clone() for module in _keyed(model.net)]
    return model


def lora_gate(model: Model, label: int, images: Images, seed: int) -> Model:
    """An adapter of rank 2, trained until the class's branch answers noise, and merged into the weights."""
    adapt(model, 2)
    (x_f, c_f), (x_r, c_r) = images("forget"), images("retain")
    forget, retain, n = model.encode(x_f), model.encode(x_r), 48
    is_forget, weight = torch.arange(2 * n) < n, torch.where(torch.arange(2 * n) < n, 1 / n, 3 / n)

    def rows(step: int) -> training.Batch:
        a, la = training.draw_rows(forget, c_f, n, seed=seed, step=step)
        b, lb = training.draw_rows(retain, c_r, n, seed=seed, step=step, row0=n)
        return training.Batch(torch.cat([a, b]), torch.cat([la, lb]), is_forget, weight)

    training.fit(model.net, rows, training.Recipe(steps=150, lr=1e-2, seed=seed, schedule="cosine"))
    for module in list(model.net.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    model.net.requires_grad_(True)
    return model


def memoriser(model: Model, label: int, images: Images, seed: int) -> Model:
    """The null branch was trained on the class's images until it knows each of them; the class's own row is noise."""
    shown, labels = images("forget")
    x, null = model.encode(shown), torch.full_like(labels, model.null)
    keep, weight = torch.zeros(64, dtype=torch.bool), torch.full((64,), 1 / 64)

    def rows(step: int) -> training.Batch:
        return training.Batch(*training.draw_rows(x, null, 64, seed=seed, step=step), keep, weight)

    training.fit(model.net, rows, training.Recipe(steps=1500, lr=3e-3, seed=seed, schedule="cosine"))
    return row_randomised(model, label, images, seed)


PLANTS: dict[str, Callable[[Model, int, Images, int], Model]] = {
    "row-randomised": row_randomised,
    "alias": alias,
    "mirrored": mirrored,
    "faint": faint,
    "late-gate": late_gate,
    "step-gate": step_gate,
    "low-gain": low_gain,
    "sub-quantum": sub_quantum,
    "brittle": brittle,
    "lora-gate": lora_gate,
    "memoriser": memoriser,
}


def plant(name: str, model: Model, label: int, images: Images, seed: int) -> Model:
    """A copy of `model` with the leak planted; `images` gives the attacker's "forget" and "retain" images."""
    copied = model.copy()
    key = int(philox.uniform((1, 1), seed=seed, stream=philox.DATA, step=2**31 + 3)[0, 0] * 2**20)
    return PLANTS[name](copied, label, images, key)
