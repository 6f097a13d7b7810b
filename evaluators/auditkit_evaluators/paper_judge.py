"""The publications' judge: torchvision's ResNet-34, from ImageNet weights to the classes of a data set, on images resized to 224.

train_classifier.py, which SA (https://arxiv.org/abs/2305.10120) and SalUn (https://arxiv.org/abs/2310.12508) share: a new last layer
(Xavier, uniform), bilinear to 224 x 224, mean and deviation .5, 10 epochs of Adam, learning rate 1e-5 for the body and 1e-4 for the last
layer, weight decay 5e-4, batches of 128, random horizontal flips. They flip too when they test it on real images (not when it judges
generated ones: classifier_evaluation.py); here nothing is flipped after training.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision  # type: ignore[import-untyped]
from safetensors.torch import load_file
from torch import Tensor

from auditkit import files
from auditkit.data import Dataset
from auditkit.errors import UserError
from auditkit_evaluators import imagenet, resnet
from auditkit_evaluators.train_judge import Report, batch_of, check, fit, flipped, shuffled, where

CHANNELS = (1, 3)
SIDE, EPOCHS = 224, 10
LR_BODY, LR_LAST, WEIGHT_DECAY = 1e-5, 1e-4, 5e-4
CHUNK = 64  # images judged at once


class PaperJudge(torchvision.models.ResNet):  # type: ignore[misc]  # torchvision ships no types
    """Floats (B, 1 or 3, H, W) in [0, 1] to logits (B, K) and features (B, 512); the tensors have torchvision's names."""

    def __init__(self, classes: int) -> None:
        super().__init__(torchvision.models.resnet.BasicBlock, [3, 4, 6, 3], num_classes=classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # antialias: as Pillow resizes, which their transforms call; it changes nothing unless images are larger than 224
        x = F.interpolate(x.expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear", antialias=True)
        x = self.maxpool(self.relu(self.bn1(self.conv1(2 * x - 1))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        features = torch.flatten(self.avgpool(x), 1)
        return self.fc(features), features


def load(file: Path, classes: int) -> PaperJudge:
    """The network in a safetensors file, in evaluation mode, on the GPU where there is one. Raises UserError when it does not fit."""
    tensors = load_file(files.check_safetensors(file))
    if "fc.weight" not in tensors or tensors["fc.weight"].shape != (classes, 512):
        found = tuple(tensors["fc.weight"].shape) if "fc.weight" in tensors else "none"
        raise UserError(f"{file} has a last layer of {found}, wanted fc.weight ({classes}, 512) of torchvision's ResNet-34")
    network = _blank(classes, 0)
    _fill(network, tensors, file)
    network.to(where()).eval()
    return network


def start(weights: Path | None, classes: int, seed: int = 0) -> PaperJudge:
    """The network before fine-tuning: ImageNet's body and a new last layer drawn from `seed`.

    `weights` is torchvision's resnet34 file, or its tensors as safetensors; None downloads it (87 MB, kept by torch).

    Raises:
        UserError: a file that holds anything but ResNet-34's tensors, or a download that failed: random weights never stand in for them.
    """
    tensors = imagenet.tensors(weights)
    network = _blank(classes, seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.nn.init.xavier_uniform_(network.fc.weight)
    # The file's last layer tells ImageNet's thousand classes apart; ours begins at random.
    last = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("fc.")}
    _fill(network, {**tensors, **last}, weights or imagenet.PUBLISHED.url)
    return network


def train(
    data: Dataset,
    network: PaperJudge,
    *,
    steps: int | None = None,
    flip: bool = True,
    seed: int = 0,
    report: Report | None = None,
) -> PaperJudge:
    """`network` fine-tuned in place on `data`'s `judges` split by the publications' recipe (10 epochs, or `steps`), in evaluation mode.

    Grey images become three equal channels. The same seed gives the same weights on the same CPU; on a GPU the gradient of max-pooling
    adds up in any order.

    Raises:
        UserError: steps < 1, or a class without images.
        FloatingPointError: the loss is no longer finite.
    """
    images, labels = data.part("judges")
    steps = steps_of(data) if steps is None else steps
    check(data, steps)
    network.to(where())
    body = [p for name, p in network.named_parameters() if not name.startswith("fc.")]
    groups = [{"params": body, "lr": LR_BODY}, {"params": list(network.fc.parameters()), "lr": LR_LAST}]
    rng = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in itertools.islice(shuffled(len(images), rng), steps):
            yield flipped(images[rows], rng) if flip else images[rows], labels[rows]

    fit(network, batches(), torch.optim.Adam(groups, weight_decay=WEIGHT_DECAY), report)
    network.eval()
    return network


def steps_of(data: Dataset) -> int:
    """The steps of 10 epochs over the `judges` split."""
    n = len(data.part("judges")[1])
    return round(EPOCHS * n / batch_of(n)) if n else 0


def scores_of(network: PaperJudge) -> resnet.Scores:
    """The function from uint8 images to (logits (B, K), features (B, 512)) in float64."""
    return resnet.scores_of(network, CHUNK)


def _blank(classes: int, seed: int) -> PaperJudge:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return PaperJudge(classes)


def _fill(network: PaperJudge, tensors: dict[str, Tensor], origin: Path | str) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{origin} does not fit torchvision's ResNet-34: {str(error).splitlines()[1].strip()[:200]}") from error
