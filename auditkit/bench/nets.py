"""The networks that are timed: the bundled digits denoiser, and the 38.6 M-parameter UNet of the CIFAR-10 papers with random weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit import diffusion, models, peers, training
from auditkit.errors import choose
from auditkit.stages import source

SIZES = ("digits", "cifar10")
ROWS = {"digits": 64, "cifar10": 8}  # forget and retain rows each of one step on a CPU; 128 on a GPU, as in the papers
IMAGES = {"digits": 100, "cifar10": 8}


@dataclass(frozen=True)
class Work:
    """One network and its rows: `batches(step)` of a SAFEMax step."""

    model: models.Model
    rows: int
    images: int
    lr: float

    def batches(self, step: int) -> training.Batch:
        n = self.rows
        x = torch.tanh(torch.randn(2 * n, *self.model.shape, generator=torch.Generator().manual_seed(step)))
        forget = torch.arange(2 * n) < n
        labels = torch.where(forget, 2, torch.arange(2 * n) % self.model.null)
        return training.Batch(x, labels, forget, torch.full((2 * n,), 1 / n))

    @property
    def psi(self) -> Tensor:
        return diffusion.psi(1.0)


def work(size: str) -> Work:
    """The network of `size` on the GPU where there is one."""
    choose("--size", size, SIZES)
    gpu = torch.cuda.is_available()
    if size == "digits":
        base = source.bundled("digits")
        assert base is not None
        model = base.load()
    else:
        model = models.build((3, 32, 32), 10, seed=0, architecture=peers.CIFAR10)
        model.net.to("cuda" if gpu else "cpu")
    return Work(model, 128 if gpu else ROWS[size], 500 if gpu else IMAGES[size], 1e-4)
