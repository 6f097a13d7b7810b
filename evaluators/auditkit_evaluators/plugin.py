"""A judge of the user's own: `--judges module:function`, a function from uint8 images (B, C, H, W) to probabilities (B, K).

auditkit fits the temperature and the answer
"no class" (on pixels), and measures its card, like any other judge's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditkit import plugin
from auditkit.errors import UserError

if TYPE_CHECKING:
    from auditkit.data import Dataset
    from auditkit_evaluators.votes import Judge

OPTION = "--judges"


def check(spec: str) -> str:
    """`spec`, if it is "module:function". Raises UserError."""
    return plugin.check(OPTION, spec)


def sha_of(spec: str) -> str:
    """The hash of the file that the function stands in. Raises UserError when there is none."""
    return plugin.find(OPTION, spec)[2]


def load(spec: str, data: Dataset, *, seed: int = 0) -> Judge:
    """The plug-in as a judge. Its family is its name: nobody knows whom it fails with.

    Raises:
        UserError: it cannot be imported, or does not answer with probabilities (B, K) for the images of `data`.
    """
    import numpy as np
    from torch import Tensor

    from auditkit_evaluators import ensemble
    from auditkit_evaluators.votes import Floats

    _, function, sha = plugin.find(OPTION, spec)
    name = plugin.slug(spec.partition(":")[2])
    if not name:
        raise UserError(f"--judges {spec}: the function's name is the judge's, and has no letter")

    def scores(images: Tensor) -> tuple[Floats, Floats]:
        try:
            with plugin.quiet():
                probs = np.asarray(function(images.clone()), dtype=np.float64)  # a copy: others judge the same images
        except (Exception, SystemExit) as error:  # whatever it raises is its author's to mend
            raise UserError(f"--judges {spec} failed on {len(images)} images: {type(error).__name__}: {error}") from error
        wanted = (len(images), len(data.classes))
        if probs.shape != wanted:
            raise UserError(f"--judges {spec}: wanted probabilities {wanted} with rows that sum to 1, got {probs.shape}")
        if not bool((probs >= 0).all()) or not np.allclose(probs.sum(axis=1), 1, atol=1e-3):
            raise UserError(f"--judges {spec}: wanted rows of probabilities that sum to 1, got NaN, negative values or other sums")
        return np.log(np.maximum(probs, 1e-30)), ensemble.pixels(images)

    return ensemble.member(name, name, scores, sha, data, f"plug-in {spec}", ensemble.PIXELS)
