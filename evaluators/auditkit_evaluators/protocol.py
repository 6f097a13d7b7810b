"""Two ways to prepare images before fidelity is measured: ours, and the field's with every deviation from it named.

"The field" is the DDPM code of SA (Heng and Soh 2023, arXiv 2305.10120) and of SalUn (Fan et al. 2023, arXiv 2310.12508), which
share their sampler and evaluator, and after them SAFEMax.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit_evaluators.votes import check_images


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """`n` images of each forgotten class and `retain_n` of each retained one, against the split `reference` of the data set.

    `stretch` says whether stretch() is applied to generated images, before judges and before features, and to the reference
    before features. `deviations` are the ways in which the numbers are not those of the publications.
    """

    name: str
    description: str
    stretch: bool
    n: int
    retain_n: int
    reference: str
    deviations: tuple[str, ...]


def stretch(images: Tensor) -> Tensor:
    """Each uint8 image (B, C, H, W) scaled so that its smallest value is 0 and its largest 255, all channels alike.

    This is what torchvision's save_image(normalize=True) did to every image in SA's and SalUn's pipelines, generated or real:
    67 % of 2,000 CIFAR-10 test images change, and noise, which fills the range already, does not. A constant image becomes black.

    Raises:
        ValueError: not uint8 images.
    """
    x = check_images(images).double()
    if x.numel() == 0:
        return images.cpu()
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1) * 255).add(0.5).floor().to(torch.uint8)


PROTOCOLS = {
    "clean": Protocol(
        name="clean",
        description="images as they are, against real images that no model has seen",
        stretch=False,
        n=500,
        retain_n=50,
        reference="heldout",
        deviations=(),
    ),
    "paper": Protocol(
        name="paper",
        description="images stretched one by one as in SA and SalUn, against the training images",
        stretch=True,
        n=500,
        retain_n=500,
        reference="model",
        deviations=(
            "the extractor is the one named in each measure; theirs is TensorFlow's Inception graph in OpenAI's guided-diffusion evaluator",
            "channels are read as RGB; theirs as BGR on both sides, so that absolute FIDs do not compare",
            "precision is of the generated images and the Inception Score is theirs; their README hands the folders over the wrong way"
            " round, which exchanges precision and recall and prints the score of the real images",
            "500 images of each retained class (SalUn's sample.py); SA and SalUn's README take 5000",
            "the reference is every retained class in equal number; SA takes all 45,000 training images, SalUn's loop leaves out"
            " class 0 whatever was forgotten",
            "images are stretched after rounding to 8 bits, theirs before: a pixel differs by under 1 + the stretch factor in levels",
            "the judges are auditkit's, unless --judge-weights brings theirs: a ResNet34 at 224 pixels (auditkit judges train resnet34)",
            "no spatial FID (sFID)",
        ),
    ),
}
