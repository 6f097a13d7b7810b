"""The judges: what an image shows, and what each judge was itself measured to do. They never see a generative model.

JUDGES maps each name of `--judges` to its module, by path: `auditkit --help` lists them without importing torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from auditkit.errors import choose

if TYPE_CHECKING:
    from auditkit.data import Dataset
    from auditkit_evaluators.votes import Judge

JUDGES: dict[str, str] = {
    "ensemble": "auditkit_evaluators.ensemble",
    "clip": "auditkit_evaluators.clip",
}


def build(names: Iterable[str], data: Dataset, *, clip_model: str | None = None, seed: int = 0) -> list[Judge]:
    """The judges behind `names`, fitted and calibrated on `data`; a name given twice is built once.

    Raises:
        UserError: an unknown name (before anything is fitted), or a judge that cannot be built from this data.
    """
    known = [choose("judge", name, JUDGES) for name in dict.fromkeys(names)]
    judges: list[Judge] = []
    for name in known:
        options = {"model": clip_model} if name == "clip" else {}
        judges += import_module(JUDGES[name]).build(data, seed=seed, **options)
    return judges
