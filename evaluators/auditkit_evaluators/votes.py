"""What a judge is, and what it hands back: votes per image, never an average, and it never sees a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AT_ONCE = 8000  # images in one call, since all their features are held: 8,000 of 512 are 33 MB

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Votes:
    """One row per image: `probs` (B, K) rows that sum to 1, the closed-set answer; `abstain` (B,) True where the judge calls
    the image no class at all, or None if it cannot; `features` (B, D) and `similarity` (B, K) to each class's captions, or None."""

    probs: Floats
    abstain: Bools | None = None
    features: Floats | None = None
    similarity: Floats | None = None

    @property
    def said(self) -> NDArray[np.int64]:
        """(B,) the closed-set class of each image."""
        return np.asarray(self.probs.argmax(axis=1))

    @property
    def answered(self) -> NDArray[np.int64]:
        """(B,) the class of each image, or K where the judge calls it no class."""
        return self.said if self.abstain is None else np.where(self.abstain, self.probs.shape[1], self.said)

    def rows(self, start: int, end: int) -> "Votes":
        """The votes on images start..end alone."""
        parts: dict[str, Any] = {"abstain": self.abstain, "features": self.features, "similarity": self.similarity}
        return Votes(probs=self.probs[start:end], **{name: None if part is None else part[start:end] for name, part in parts.items()})


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A function from uint8 images (B, C, H, W) to Votes, with what a reader must know to doubt it.

    Judges of one family share their failures, so their votes are not independent. `temperature` divided its logits; `sha`
    stands for its weights, so that a card can never be mistaken for that of another judge. `space` names its features.
    """

    name: str
    family: str
    judge: Callable[[Tensor], Votes]
    temperature: float
    fitted_on: str
    sha: str
    space: str

    def each(self, sets: Sequence[Tensor]) -> list[Votes]:
        """The votes on each of several sets of images, asked for together: one call costs the forest 30 ms, however few the images."""
        groups: list[list[Tensor]] = []
        for images in sets:
            if groups and sum(map(len, groups[-1])) + len(images) <= AT_ONCE:
                groups[-1].append(images)
            else:
                groups.append([images])
        found = []
        for group in groups:
            votes, ends = self.judge(torch.cat(group)), np.cumsum([len(images) for images in group])
            found += [votes.rows(end - len(images), end) for images, end in zip(group, ends.tolist(), strict=True)]
        return found


def check_images(images: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """`images` on the CPU, if they are uint8 (B, C, H, W) and, where `shape` (C, H, W) is given, of that shape.

    Raises:
        ValueError: they are not. Floats in [0, 1] would be judged as nearly black images without a word.
    """
    wanted = f"uint8 (B, {', '.join(map(str, shape or ('C', 'H', 'W')))})"
    if images.dtype != torch.uint8 or images.ndim != 4 or (shape is not None and tuple(images.shape[1:]) != shape):
        raise ValueError(f"expected images {wanted}, found {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}")
    return images.cpu()
