"""What stands for a file of weights in a request, and the page of pictures: what convinced which judge, disagreements first."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from auditkit import files, pictures
from auditkit.stages.judging import Panel
from auditkit_evaluators.verdict import Verdict

COLUMNS = 16


def content(path: str | None) -> str | None:
    """What stands for a file or a folder of weights in a request: the hash of its files. None stays None."""
    if path is None:
        return None
    here = Path(path)
    found = sorted(here.glob("*.safetensors")) if here.is_dir() else [here]
    return files.sha256_of([files.regular(p) for p in found])


def picture(panel: Panel, images: Tensor, asked: int, verdict: Verdict) -> bytes:
    """A PNG page: the images about which the judges disagree most, then for each judge the most and the least convincing ones."""
    votes = panel.each(lambda judge: judge.judge(images))
    closed = [v.probs[:, asked] for v in votes]
    rows = [("judges disagree", images[_first(np.std(closed, axis=0))])]
    for judge, v, scores in zip(panel.judges, votes, closed, strict=True):
        taken = int((v.answered == asked).sum())
        rows.append((f"{judge.name}: {taken} accepted\nmost convincing", images[_first(scores)]))
        rows.append(("least", images[_first(-scores)]))
    return pictures.grid(rows, title=f"{verdict.word}: {verdict.n} images asked for {panel.dataset.classes[asked]!r}")


def _first(scores: np.ndarray) -> Tensor:
    return torch.from_numpy(np.argsort(-scores, kind="stable")[:COLUMNS].copy())
