"""A latent model's folder is that of diffusers' `DiTPipeline`: `model_index.json`, and in folders `transformer`, `vae` and `scheduler`.

Nothing in it names what is imported: the network and the VAE are of classes that are known here, and the schedule must be ours.
"""

import json
from pathlib import Path
from typing import Any

from auditkit import files, schedule, stored
from auditkit.errors import UserError

INDEX, NETWORK, VAE = schedule.INDEX, "transformer", "vae"
SCHEDULE = f"{schedule.FOLDER}/{schedule.CONFIG}"
PARTS = tuple(f"{part}/{name}" for part in (NETWORK, VAE) for name in (stored.CONFIG, stored.WEIGHTS))
FILES = (INDEX, *PARTS, SCHEDULE)  # all that is read of it
INSIDE = ("unet", NETWORK)  # where other pipelines keep a network that may be read by itself
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
        inside = next((part for part in INSIDE if (folder / part / stored.CONFIG).exists()), None)
        instead = f"; give the folder of its network, {folder / inside}" if inside else ""
        raise UserError(f"{folder / INDEX} describes {index.get('_class_name')!r}, wanted a DiTPipeline{instead}")
    for part in (folder / NETWORK, folder / VAE, (folder / SCHEDULE).parent):
        if part.is_symlink():
            raise UserError(f"{part} is a symbolic link; give the folder itself")
    return _names(index.get("id2label"), folder / INDEX)


def write(folder: Path, names: dict[int, str]) -> None:
    """Writes what stands beside network and VAE, so that diffusers' `DiTPipeline` reads the folder."""
    parts = {"transformer": "DiTTransformer2DModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index: dict[str, Any] = {"_class_name": "DiTPipeline", **{part: ["diffusers", kind] for part, kind in parts.items()}}
    index |= {"id2label": {str(k): name for k, name in names.items()}} if names else {}
    trained = {**schedule.BETAS, "prediction_type": "epsilon"}
    sampled = {"_class_name": "DDIMScheduler", **trained, "clip_sample": False, "timestep_spacing": "trailing"}
    (folder / SCHEDULE).parent.mkdir(parents=True, exist_ok=True)
    for path, content in ((folder / INDEX, index), (folder / SCHEDULE, sampled)):
        path.write_text(json.dumps(content, indent=2) + "\n")


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
