"""The noise schedule that a foreign model was trained with, read from diffusers' `scheduler_config.json` and compared with ours.

A model samples noise, or nothing like itself, under a schedule that it was not trained with, and nothing in its weights tells. So every
scheduler file that belongs to a model is read, and one that is not ours (diffusion.py) is refused by field and value.
"""

import math
import os
from pathlib import Path
from typing import Any

from auditkit import files
from auditkit.diffusion import T
from auditkit.errors import UserError

CONFIG, FOLDER, INDEX = "scheduler_config.json", "scheduler", "model_index.json"
OLD = ("config.json",)  # what a scheduler's file was called in 2022
ROOTS = 4  # how many folders up a pipeline's root is looked for: root/checkpoint-500/unet_ema
BETAS = {"num_train_timesteps": T, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
# What came to diffusers after the betas: a file without the field means this value.
LATER: dict[str, Any] = {
    "prediction_type": "epsilon",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "predict_epsilon": True,  # of 2022: False meant that the network gives x_0
    "use_flow_sigmas": False,
    "snr_shift_scale": None,  # moves the betas (CogVideoX)
    "timestep_type": "discrete",  # of Euler's: "continuous" networks are told log sigma / 4
}
LEARNED = ("learned", "learned_range")
# Samplers of a network that was trained with plain betas. Consistency, flow, EDM and variance-exploding models are told other things.
KNOWN = (
    *("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"),
    *("KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep"),
    *("UniPCMultistep", "SASolver"),
)
ASSUMED = f"assumed, since it has no {CONFIG}: trained with linear betas 1e-4 to 0.02 and T = {T}, predicting eps"


def found(folder: Path) -> list[Path]:
    """The scheduler files that belong to a network's or pipeline's folder: in it and beside it, also in a folder `scheduler` or
    `noise_scheduler`, and further up in `scheduler` or the root of a pipeline.
    """
    places: list[Path] = []
    for given in dict.fromkeys((Path(os.path.abspath(folder)), folder.resolve())):
        for home in (given, given.parent):
            places += [home, *sorted(home.glob(f"*{FOLDER}"))]
        for home in given.parents[1:ROOTS]:
            places += [home / FOLDER, *([home] if (home / INDEX).exists() else [])]
    names = [(place, name) for place in dict.fromkeys(places) for name in (CONFIG, *(OLD if place.name == FOLDER else ()))]
    dangling = [place for place in places if place.is_symlink() and not place.exists()]
    return [*dangling, *(place / name for place, name in names if (place / name).exists() or (place / name).is_symlink())]


def check(folder: Path) -> bool:
    """Whether the model in `folder` says how it was trained.

    Raises:
        UserError: it was trained with another schedule than ours, or a scheduler file cannot be read; field and value are named.
    """
    paths = found(folder)
    for path in paths:
        link = next((p for p in (path, path.parent) if p.is_symlink() and p.name not in (CONFIG, *OLD)), None)
        if link is not None:
            raise UserError(f"{link} is a symbolic link; give the folder itself")
        if reason := unfit(files.read_json(path)):
            raise UserError(f"{path} has {reason}")
    return bool(paths)


def unfit(config: dict[str, Any]) -> str | None:
    """Why a scheduler's config is not the schedule that we sample with ("field = value, wanted ..."), or None."""
    kind = config.get("_class_name")
    if kind is not None and str(kind).removesuffix("Scheduler") not in KNOWN:
        return f"_class_name = {kind!r}: a model trained for that sampler is not read yet"
    for name, value in {**BETAS, **LATER}.items():
        given = config.get(name, None if name in BETAS else value)  # the betas are always written out, the rest came later
        close = isinstance(value, float) and isinstance(given, float) and math.isclose(given, value, rel_tol=1e-6)
        if given != value and not close:
            said = f"{name} = {given!r}" if name in config else f"no {name}"
            return f"{said}, wanted {value!r}: a model trained with another noise schedule than ours is not read yet"
    if config.get("variance_type") in LEARNED:
        return f"variance_type = {config['variance_type']!r}: a learned variance is not read yet"
    return None
