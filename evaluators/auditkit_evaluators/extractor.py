"""What turns images into the features and logits that FID, KID and the rest are computed on, under a name that is part of theirs.

An FID on a judge's 64 features and one on Inception's 2048 are different quantities; neither is "the FID".
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from auditkit.errors import UserError
from auditkit.files import check_safetensors, regular, unchanged
from auditkit_evaluators.votes import Floats, Judge, check_images

MAX_WEIGHTS = 2**28  # bytes; Inception's 23.9 million float32 weights are 96 MB
BATCH = 32  # images of 299 x 299: .4 s each on one core
FLOOR = 1e-300  # a probability of 0 has no logarithm, and the Inception Score would be NaN


@dataclass(frozen=True)
class Extractor:
    """uint8 images (B, C, H, W) to `features` (B, D) and `logits` (B, K), float64 each; `sha` identifies the weights."""

    name: str
    sha: str
    function: Callable[[Tensor], tuple[Floats, Floats]]


def judge_extractor(judge: Judge) -> Extractor:
    """The features of `judge` and the logarithms of its closed-set probabilities; `sha` is the judge's own.

    The function raises UserError where the judge has no features.
    """

    def function(images: Tensor) -> tuple[Floats, Floats]:
        votes = judge.judge(check_images(images))
        if votes.features is None:
            raise UserError(f"{judge.name} has no features to measure fidelity on: take a judge that has, such as cnn-a or clip")
        return votes.features, np.log(np.maximum(votes.probs, FLOOR))

    return Extractor(name=f"judge {judge.name} features", sha=judge.sha, function=function)


def inception(weights: Path) -> Extractor:
    """Inception v3 as torch-fidelity defines it (2048 features; "unbiased" logits for the Inception Score), from a file you have.

    `weights` is torch-fidelity's weights-inception-2015-12-05 or the same tensors as safetensors. A pickle is opened with
    weights_only=True, so no code in it runs; torch-fidelity's own loader would run it. Grey images become three equal channels, RGB.

    Raises:
        UserError: no such file, one that is too large, holds anything but tensors, or holds other tensors than Inception's.
    """
    path, size = Path(weights), regular(Path(weights)).stat().st_size
    if size > MAX_WEIGHTS:
        raise UserError(f"{path} has {size} bytes, at most {MAX_WEIGHTS} are read: it cannot be Inception v3")
    own = io.BytesIO()  # torch-fidelity unpickles what it is given, so it is given a file that we wrote
    with unchanged([path]) as digest:
        torch.save(_tensors(path), own)
    own.seek(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=own).to(device)
    except RuntimeError as error:
        said = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"{path} does not hold the weights of torch-fidelity's Inception v3: {said[:300]}") from error

    @torch.inference_mode()
    def function(images: Tensor) -> tuple[Floats, Floats]:
        parts = [network(batch.expand(-1, 3, -1, -1).to(device)) for batch in torch.split(check_images(images), BATCH)]
        features, logits = (torch.cat([part[i] for part in parts]).cpu().double().numpy() for i in (0, 1))
        return features, logits

    return Extractor(name="Inception v3", sha=digest, function=function)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a pickle without code."""
    try:
        found = (
            load_file(check_safetensors(path)) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} holds more than tensors, or is damaged; nothing in it was run ({type(error).__name__})") from error
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise UserError(f"{path} holds {type(found).__name__}, wanted a dictionary of tensors")
    return found
