"""The judges: what an image shows, and what each judge was itself measured to do. They never see a generative model.

JUDGES (they vote) and MEASURES map each name of `--judges` to its module, by path: `auditkit --help` lists them without torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.errors import UserError, choose
from auditkit_evaluators import plugin

if TYPE_CHECKING:
    from auditkit.data import Dataset
    from auditkit_evaluators.votes import Judge

JUDGES: dict[str, str] = {
    "ensemble": "auditkit_evaluators.ensemble",
    "clip": "auditkit_evaluators.clip",
}
# They give numbers and no votes: `compare(images, reference)`. The noise test always runs; naming it prints it.
MEASURES: dict[str, str] = {
    "density": "auditkit_evaluators.density",
    "noise": "auditkit_evaluators.noise",
    "fidelity": "auditkit_evaluators.fidelity",
}


# The members of the ensemble, each of which can be named alone.
MEMBERS = ("svc", "knn", "forest", "logistic", "cnn-a", "cnn-b", "patches")


def check(name: str) -> str:
    """`name`, if it is a judge, a member of the ensemble, a measure, or a plug-in "module:function". Raises UserError with a suggestion."""
    return plugin.check(name) if ":" in name else choose("judge", name, (*JUDGES, *MEASURES, *MEMBERS))


def speaks(name: str) -> bool:
    """Whether `name` votes; measures give numbers."""
    return name not in MEASURES


def build(names: Iterable[str], data: Dataset, *, clip_model: str | None = None, weights: Path | None = None, seed: int = 0) -> list[Judge]:
    """The judges behind `names`, fitted and calibrated on `data`; a name given twice is built once, a measure builds none.

    `weights` are networks that join the ensemble (a file or folder of safetensors).

    Raises:
        UserError: an unknown name (before anything is fitted), a judge that cannot be built from this data, or two of one name.
    """
    known = [check(name) for name in dict.fromkeys(names)]
    judges: list[Judge] = []
    members = None if "ensemble" in known else [name for name in known if name in MEMBERS]
    if members is None or members or weights is not None:
        judges += import_module(JUDGES["ensemble"]).build(data, seed=seed, weights=weights, only=members)
    if "clip" in known:
        judges += import_module(JUDGES["clip"]).build(data, seed=seed, model=clip_model)
    judges += [plugin.load(name, data, seed=seed) for name in known if ":" in name]
    twice = {j.name for j in judges if [k.name for k in judges].count(j.name) > 1}
    if twice:
        raise UserError(f"two judges are called {', '.join(sorted(twice))}: give the weights' file or the plug-in another name")
    return judges
