"""A judge of the user's own: `--judges module:function`, a function from uint8 images (B, C, H, W) to probabilities (B, K).

The module is looked for on the path and in the working folder, and only because the command line names it: no file, variable or run
can bring one in. The hash of that one file is part of a result; what it imports is not. auditkit fits the temperature and the answer
"no class" (on pixels), and measures its card, like any other judge's.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.errors import UserError

if TYPE_CHECKING:
    from auditkit.data import Dataset
    from auditkit_evaluators.votes import Judge

SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check(spec: str) -> str:
    """`spec`, if it is "module:function". Raises UserError."""
    if not SPEC.fullmatch(spec):
        raise UserError(f"--judges takes a plug-in as module:function, got {spec!r}")
    return spec


def find(spec: str) -> tuple[Any, str]:
    """The function and the hash of the file that it stands in. Raises UserError when there is none."""
    module_name, _, function_name = check(spec).partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout carries data alone
            module = import_module(module_name)
    except (Exception, SystemExit) as error:  # a plug-in can fail in any way while it is imported, and must not end the command
        raise UserError(f"--judges {spec}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"--judges {spec}: {module_name} has no function {function_name}")
    file = getattr(module, "__file__", None)
    if not file:
        raise UserError(f"--judges {spec}: {module_name} is no file, so that it cannot be hashed into the result")
    return function, hashlib.sha256(Path(file).read_bytes()).hexdigest()


def load(spec: str, data: Dataset, *, seed: int = 0) -> Judge:
    """The plug-in as a judge. Its family is its name: nobody knows whom it fails with.

    Raises:
        UserError: it cannot be imported, or does not answer with probabilities (B, K) for the images of `data`.
    """
    import numpy as np
    from torch import Tensor

    from auditkit_evaluators import ensemble
    from auditkit_evaluators.votes import Floats

    function, sha = find(spec)
    name = re.sub(r"[^a-z0-9]+", "-", spec.partition(":")[2].lower()).strip("-")
    if not name:
        raise UserError(f"--judges {spec}: the function's name is the judge's, and has no letter")

    def scores(images: Tensor) -> tuple[Floats, Floats]:
        try:
            with contextlib.redirect_stdout(sys.stderr):
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
