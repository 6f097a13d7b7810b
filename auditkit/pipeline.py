"""A latent model's folder is that of diffusers' `DiTPipeline`: `model_index.json`, and in folders `transformer`, `vae` and `scheduler`.

Nothing in it names what is imported: the network and the VAE are of classes that are known here, and the schedule must be ours.
"""

import json
import math
from pathlib import Path
from typing import Any

from auditkit import files, stored
from auditkit.diffusion import T
from auditkit.errors import UserError

INDEX, NETWORK, VAE, SCHEDULE = "model_index.json", "transformer", "vae", "scheduler/scheduler_config.json"
PARTS = tuple(f"{part}/{name}" for part in (NETWORK, VAE) for name in (stored.CONFIG, stored.WEIGHTS))
FILES = (INDEX, *PARTS, SCHEDULE)  # all that is read of it
BETAS = {"num_train_timesteps": T, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
LONGEST = 2000  # characters of a class's name: ImageNet's are lists of synonyms


def found(folder: Path) -> bool:
    """Whether a folder is meant to be a pipeline's: it has an index, and no network of its own beside it."""
    return ((folder / INDEX).exists() or (folder / INDEX).is_symlink()) and not (folder / stored.CONFIG).exists()


def check(folder: Path) -> dict[int, str]:
    """The names of the classes that the folder gives (`id2label`), by label; none where it gives none.

    Raises:
        UserError: another pipeline, a part that is a symbolic link, another noise schedule, or names that are none.
    """
    index = files.read_json(folder / INDEX)
    if index.get("_class_name") != "DiTPipeline":
        raise UserError(f"{folder / INDEX} describes {index.get('_class_name')!r}, wanted a DiTPipeline")
    for part in (folder / NETWORK, folder / VAE, (folder / SCHEDULE).parent):
        if part.is_symlink():
            raise UserError(f"{part} is a symbolic link; give the folder itself")
    if (folder / SCHEDULE).exists() or (folder / SCHEDULE).is_symlink():
        _check_schedule(files.read_json(folder / SCHEDULE), folder / SCHEDULE)
    return _names(index.get("id2label"), folder / INDEX)


def write(folder: Path, names: dict[int, str]) -> None:
    """Writes what stands beside network and VAE, so that diffusers' `DiTPipeline` reads the folder."""
    parts = {"transformer": "DiTTransformer2DModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index: dict[str, Any] = {"_class_name": "DiTPipeline", **{part: ["diffusers", kind] for part, kind in parts.items()}}
    index |= {"id2label": {str(k): name for k, name in names.items()}} if names else {}
    schedule = {"_class_name": "DDIMScheduler", **BETAS, "prediction_type": "epsilon", "clip_sample": False, "timestep_spacing": "trailing"}
    (folder / SCHEDULE).parent.mkdir(parents=True, exist_ok=True)
    for path, content in ((folder / INDEX, index), (folder / SCHEDULE, schedule)):
        path.write_text(json.dumps(content, indent=2) + "\n")


def _check_schedule(config: dict[str, Any], path: Path) -> None:
    """Raises UserError unless the noise schedule is the one that everything here is computed with (diffusion.py)."""
    wanted: dict[str, Any] = {**BETAS, "prediction_type": "epsilon", "trained_betas": None, "rescale_betas_zero_snr": False}
    for name, value in wanted.items():
        given = config.get(name, None if name in BETAS else value)  # the betas are written out, the rest came later
        close = isinstance(value, float) and isinstance(given, float) and math.isclose(given, value, rel_tol=1e-6)
        if given != value and not close:
            raise UserError(f"{path} has {name} = {given!r}, wanted {value!r}: another noise schedule than ours is not supported")


def _names(listed: Any, path: Path) -> dict[int, str]:
    """Raises UserError for an id2label that is no table of names by label."""
    if listed is None:
        return {}
    names = listed.items() if isinstance(listed, dict) else [("", listed)]
    good = all(k.isdecimal() and len(k) < 8 and isinstance(v, str) and len(v) <= LONGEST for k, v in names)
    labels = dict(sorted((int(k), v) for k, v in names)) if good else {}
    if len(labels) < len(names):  # "1" and "01" are one label
        raise UserError(f"{path} has an id2label that is no table of names by label")
    return labels
