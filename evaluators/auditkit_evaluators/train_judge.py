"""CIFAR ResNets trained from scratch on the `judges` split: the networks of resnet.py, for data that nobody has published one for.

The recipe is the usual one (He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385, with Nesterov's momentum and one
cosine in place of its steps): SGD, weight decay 5e-4, learning rate .1 after a short warm-up, batches of 128, random crops out of
4 zeros of padding, random flips.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditkit.data import Dataset
from auditkit.errors import UserError
from auditkit_evaluators import resnet

LAYERS = (20, 32, 44, 56)
STEPS, BATCH, LR, WARM = 2800, 128, 0.1, 0.05  # 12,000 images are seen 30 times; the warm-up is a share of the steps
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
PAD = 4  # pixels of zeros around an image before it is cropped

Report = Callable[[int], None]


def train(
    data: Dataset, layers: int, *, steps: int = STEPS, flip: bool = True, seed: int = 0, report: Report | None = None
) -> resnet.ResNet:
    """A CIFAR ResNet trained on `data`'s `judges` split, in evaluation mode; on the GPU where there is one.

    `flip` mirrors half of the images: not for text or digits. `report(done)` is called after each step. The same seed gives the
    same weights on the same machine, and the global random state is left as it was.

    Raises:
        UserError: another number of layers, images that are not colour or smaller than 8 x 8, steps < 1, or a class without images.
        FloatingPointError: the loss is no longer finite.
    """
    if layers not in LAYERS:
        raise UserError(f"CIFAR ResNets are trained with {', '.join(map(str, LAYERS))} layers, got {layers}")
    if data.shape[0] != 3 or min(data.shape[1:]) < 8:
        size = " x ".join(map(str, data.shape))
        raise UserError(f"CIFAR ResNets take colour images of at least 8 x 8 pixels, {data.name} has {size}: train resnet34 instead")
    check(data, steps)
    images, labels = data.part("judges")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too, which are not put back
        network = resnet.ResNet((layers - 2) // 6, len(data.classes))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    network.to(where())
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    rng = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for step, rows in enumerate(itertools.islice(shuffled(len(images), rng), steps)):
            optimizer.param_groups[0]["lr"] = lr_at(step, steps)
            x = cropped(images[rows], rng)
            yield flipped(x, rng) if flip else x, labels[rows]

    fit(network, batches(), optimizer, report)
    return network.eval()


def check(data: Dataset, steps: int) -> None:
    """Raises UserError unless there is a step to train for and an image of every class in the `judges` split."""
    if steps < 1:
        raise UserError(f"a network is trained for at least 1 step, got {steps}")
    labels = data.part("judges")[1]
    missing = [name for k, name in enumerate(data.classes) if not bool((labels == k).any())]
    if missing:
        raise UserError(f"judges need images of every class, {data.name} has none of {', '.join(missing)} in its judges split")


def where() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, report: Report | None) -> None:
    """One step of cross-entropy on each batch of uint8 images (B, C, H, W) and labels (B,); the network gives (logits, features).

    Raises:
        FloatingPointError: see train.
    """
    device = next(network.parameters()).device
    network.train()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for done, (images, labels) in enumerate(batches, 1):
            loss = F.cross_entropy(network(images.to(device).float() / 255)[0], labels.to(device))
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {done - 1}: training diverged")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if report:
                report(done)
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        raise FloatingPointError("weights are not finite after the last step: training diverged")


def lr_at(step: int, steps: int) -> float:
    """Up in a straight line for a twentieth of the steps, then down along half a cosine."""
    warm = max(1, round(WARM * steps))
    if step < warm:
        return LR * (step + 1) / warm
    return LR * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def batch_of(n: int) -> int:
    """How many of `n` images a step sees."""
    return min(BATCH, n)


def shuffled(n: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Row numbers (B,), without end: every image once, in new order, before any comes again.

    A batch goes on into the next round, so that none is smaller than the others: batch normalisation would feel it.
    """
    left = torch.zeros(0, dtype=torch.int64)
    while True:
        left = torch.cat([left, torch.randperm(n, generator=rng)])
        while len(left) >= batch_of(n):
            yield left[: batch_of(n)]
            left = left[batch_of(n) :]


def cropped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) moved by -PAD..PAD pixels in both directions, zeros moved in."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (PAD,) * 4)
    moves = torch.randint(2 * PAD + 1, (len(x), 2), generator=rng).tolist()
    return torch.stack([image[:, dy : dy + height, dx : dx + width] for image, (dy, dx) in zip(padded, moves, strict=True)])


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the images (B, C, H, W), drawn one by one, as in a mirror."""
    mirrored = torch.randint(2, (len(x),), generator=rng).bool()
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)
