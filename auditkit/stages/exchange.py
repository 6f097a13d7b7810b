"""Models in and out: a checkpoint of SalUn or Selective Amnesia becomes a run; a model becomes a diffusers folder or such a checkpoint."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit import files, models, peer_file, peer_weights, peers, rundir, training
from auditkit.errors import UserError, choose
from auditkit.stages import source
from auditkit.stages.cell import SILENT, Console, compute

ABOUT = "import.json"
FORMS = ("diffusers", "peer")


@dataclass(frozen=True)
class Found:
    """A checkpoint that was read and fits: its model, the request of its run, and what was found and chosen, in plain values."""

    model: models.Model
    request: rundir.Request
    about: dict[str, Any]


def look(file: str, *, weights: str | None = None, size: int | None = None, classes: tuple[int, ...] = ()) -> Found:
    """Reads a checkpoint of the peers and writes nothing.

    `weights` is raw or ema (default: as its authors sampled it), `size` the side of the images (default: from the level with attention),
    `classes` what was forgotten, if known. Raises UserError for every file that is not exactly such a checkpoint.
    """
    if weights is not None:
        choose("--weights", weights, peer_file.KINDS)
    stored = peer_file.read(Path(file))
    kind, tensors = stored.pick(weights)
    config = peer_weights.infer(tensors, size)
    model = models.Model(peer_weights.build(tensors, config))
    if len(set(classes)) != len(classes) or not all(0 <= k < model.null for k in classes):
        raise UserError(f"--class takes 0 to {model.null - 1} for this checkpoint, got {','.join(map(str, classes))}")
    request = import_request(stored.sha256, kind, config["sample_size"], classes)
    about = {
        "form": stored.form,
        "weights": kind,
        "why": "as asked" if weights else "as its authors sampled it" if stored.step is not None else "the only ones in it",
        "holds": list(stored.sets),
        "step": stored.step,
        "parameters": model.parameters,
        "channels": list(config["block_out_channels"]),
        "blocks": config["layers_per_block"],
        "attention": [level for level, name in enumerate(config["down_block_types"]) if name.startswith("Attn")],
        "classes": model.null,
        "images": list(model.shape),
        "size": "as asked" if size else "from the level with attention, which is at 16 x 16",
    }
    return Found(model, request, about)


def import_request(file: str, weights: str, size: int, classes: tuple[int, ...]) -> rundir.Request:
    """What decides an import, and so its name; `file` is the SHA-256 of the checkpoint, `size` the side of its images."""
    params = {"file": file, "weights": weights, "size": size}
    return rundir.Request(stage="import", method="peers", classes=tuple(sorted(classes)), params=params)


def bring(found: Found, console: Console = SILENT) -> rundir.Run:
    """The run that holds the model of a checkpoint; the next commands mean this model."""

    def work(run: rundir.Open, state: training.State | None, save: training.Save) -> dict[str, Any]:
        models.save(found.model, run.path / "model")
        run.write_json(ABOUT, found.about)
        return {"parameters": found.model.parameters}

    run = compute(found.request, work, console)
    for pointer in rundir.POINTERS:
        rundir.point(pointer, run)
    return run


def export(model: str, out: str, *, form: str = "diffusers") -> dict[str, Any]:
    """Writes the model of a run or folder to a new diffusers folder, or with `form` peer to a new checkpoint of the peers.

    Written beside and then renamed: whole or not at all. Raises UserError for something that exists, for a gate, which neither form can
    carry, and for a network that the peers' form has no names for.
    """
    choose("--to", form, FORMS)
    path = Path(out)
    if os.path.lexists(path) or not path.absolute().parent.is_dir():
        reason = "exists already" if os.path.lexists(path) else "lies in a folder that does not exist"
        raise UserError(f"--out {out} {reason}: give a new name in a folder that exists; nothing is overwritten")
    who = source.named(model, "subject")
    found = who.load()
    if found.gate:
        gated = ", ".join(map(str, found.gate))
        raise UserError(f"{who.name} has a gate in front of class {gated}, which no {form} file can carry: export the model behind it")
    native = isinstance(found.net, peers.ConcatUNet2DModel)
    if form == "peer" and not native:
        raise UserError(f"{who.name} is a {models.class_name(found.net)}; the peers' form has names only for what auditkit import read")
    if form == "peer":
        step = who.run.read_json(ABOUT)["step"] if who.run and ABOUT in who.run.result.files else None
        peer_file.write(path, peer_weights.to_peer(found.net), step or 0)
        digest = files.sha256_file(path)
    else:
        digest = _folder(models.Model(peers.fold(found.net)) if native else found, path)
    return {"path": str(path), "digest": digest, "form": form, "model": who.name, "parameters": found.parameters, "folded": native}


def _folder(model: models.Model, path: Path) -> str:
    """Writes a model folder under a temporary name beside, then renames it; its SHA-256."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        models.save(model, beside)
        digest = models.sha256(beside)
        beside.rename(path)
    except BaseException:  # Ctrl-C as well
        shutil.rmtree(beside, ignore_errors=True)
        raise
    files.sync_folder(path.absolute().parent)
    return digest
