"""Which model is meant: a run, a folder, the bundled one, or a control made from it."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from auditkit import data, hub, models, rundir, schedule
from auditkit.errors import UserError
from auditkit.results import canonical, sha256
from auditkit_attacks import plants

log = logging.getLogger("auditkit")
ZOO = Path(__file__).resolve().parent.parent / "zoo"
RANDOM_SEED = 1000  # the random floor's weights; no training run uses this seed by default


@dataclass(frozen=True)
class Source:
    """A model that can be loaded in any process: a folder, and what is done to it on loading: its weights drawn anew (`random`), a gate put
    in front, or a leak of class `label` planted, with a `seed`.

    `digest` is that of the run it comes from, or the hash of a foreign folder's files. `content` is the hash of the folder's files in
    either case: what is loaded later has to have it.
    """

    role: str
    folder: Path
    digest: str
    name: str
    content: str
    random: bool = False
    gate: tuple[int, ...] = ()
    plant: str = ""
    label: int = 0
    seed: int = 0
    data: str = ""

    def load(self) -> models.Model:
        """The model, on the GPU where there is one. Raises UserError where its files are no longer those that were named."""
        model = models.load_known(self.folder, self.content)
        if torch.cuda.is_available():
            model.net.to("cuda")
        if self.random:
            model = models.random_like(model, seed=RANDOM_SEED + self.seed)
        if self.plant:
            dataset = data.load(self.data)
            parts = {"forget": torch.tensor([self.label]), "retain": dataset.others((self.label,))}
            model = plants.plant(self.plant, model, self.label, lambda kind: dataset.part("model", parts[kind]), self.seed)
        return replace(model, gate=self.gate) if self.gate else model

    @property
    def run(self) -> rundir.Run | None:
        """The run of ours that made it, or None for a folder from elsewhere."""
        made = self.folder.parent
        ours = self.folder.name == "model" and made.parent.resolve() == rundir.root().resolve() and (made / rundir.RESULT).exists()
        return rundir.read(made) if ours else None

    @property
    def assumed(self) -> str | None:
        """What had to be assumed about a folder from elsewhere that does not say how it was trained; None where it says so, or is ours."""
        ours = self.run is not None or self.folder.parent == ZOO
        return None if ours or schedule.check(self.folder) else f"{self.name}: {schedule.ASSUMED}"

    @property
    def method(self) -> str:
        return self.run.request.method if self.run else "folder"

    @property
    def spec(self) -> str:
        """What `--model` would have to say to mean this model again, from any working directory."""
        return self.run.name if self.run else str(self.folder)


def bundled(data: str, without: int | None = None) -> Source | None:
    """The bundled model for a data set, or the one retrained without a class; None where nothing is bundled."""
    folder = ZOO / (data if without is None else f"{data}-without-{without}")
    if not (folder / models.CONFIG).exists():
        return None
    role = "original" if without is None else "retrained"
    digest = models.sha256(folder)
    return Source(role, folder, digest, f"bundled {folder.name}", digest)


def named(text: str, role: str) -> Source:
    """What `--model` or `--original` says: a run, a model folder, named by its content, or one on the hub. Raises UserError when it is
    none of them."""
    if not text.strip():
        raise UserError(f"the {'model' if role == 'subject' else role} is an empty text; give a run or a model folder")
    path = hub.fetch(text) if text.startswith(hub.PREFIX) else Path(text)
    if path.is_dir() and not (path / rundir.REQUEST).exists():
        models.load(path)  # refuses a folder without weights before anything is spent
        digest = models.sha256(path)
        found = Source(role, path.resolve(), digest, f"folder-{digest[:12]}", digest)
        if found.assumed:
            log.warning(found.assumed)
        return found
    if ("/" in text or path.suffix) and not path.is_dir():
        raise UserError(
            f"{text} is neither a run nor a model folder (a DiT pipeline, or a folder with {models.CONFIG} and {models.WEIGHTS})"
        )
    if not (rundir.root() / text).is_dir() and not path.exists():
        raise UserError(f"there is no run and no folder {text}; see auditkit runs list")
    return of_run(rundir.find(text), role)


def chosen(text: str | None, data: str) -> Source:
    """What `--model` names, else the latest unlearned model, else the bundled original."""
    if text is not None:
        return named(text, "subject")
    run = rundir.pointed("latest-model")
    if run:
        return of_run(run, "subject")
    found = bundled(data)
    if found is None:
        raise UserError(f"no model is bundled for {data} and none has been unlearned: give --model RUN|DIR")
    return found


def of_run(run: rundir.Run, role: str) -> Source:
    """The model that a run made. Raises UserError for a run that made none."""
    if not any(f"model/{config}" in run.result.files for config in models.CONFIGS):
        raise UserError(f"{run.name} holds no model; give an unlearn, retrain, pretrain or import run, or a model folder")
    return Source(role, run.path / "model", run.digest, run.name, models.sealed_sha256(run.result.files, "model"))


def original_of(run: rundir.Run, data: str) -> Source | None:
    """The original that an unlearning run started from, found by its digest among the bundled models and all runs."""
    wanted = run.request.parents.get("original")
    known = bundled(data)
    if known and known.digest == wanted:
        return known
    made = [other for other in rundir.finished("pretrain-", "retrain-", "unlearn-", "import-") if other.digest == wanted]
    return of_run(rundir.read(made[0].path), "original") if made else None


def random_floor(like: Source, seed: int = 0) -> Source:
    """The random network of the same architecture: it has never seen anything."""
    digest = sha256(canonical({"random": RANDOM_SEED + seed, "config": models.blank_sha256(like.folder)}))
    return Source("random", like.folder, digest, "random network", like.content, random=True, seed=seed)


def planted(name: str, original: Source, label: int, data_spec: str, seed: int) -> Source:
    """The original with the leak `name` planted for class `label` (auditkit_attacks/plants.py)."""
    digest = sha256(canonical({"plant": name, "version": plants.VERSION, "label": label, "seed": seed, "model": original.digest}))
    return Source("plant", original.folder, digest, name, original.content, plant=name, label=label, seed=seed, data=data_spec)


def gated(original: Source, forget: tuple[int, ...]) -> Source:
    """The strawman `if c == f: return noise` in front of the original."""
    digest = sha256(canonical({"gate": list(forget), "model": original.digest}))
    return Source("gate", original.folder, digest, "gate", original.content, gate=forget)


def retrained(original: Source | None, data: str, data_sha: str, forget: tuple[int, ...]) -> Source | None:
    """A model retrained from the original's architecture without the classes, or None where there is none.

    The bundled one where the original is bundled too; else of the finished retrain runs the one that was trained longest, so
    that a trial of a few steps never becomes the floor of anything while a better one exists.
    """
    if original is None:
        return None
    base = bundled(data)
    if len(forget) == 1 and base is not None and original.digest == base.digest:
        return bundled(data, without=forget[0])
    fits = [
        run
        for run in rundir.finished("retrain-")
        if set(run.request.classes) == set(forget)
        and run.request.data == data_sha
        and run.request.parents.get("original") == original.digest
    ]
    if not fits:
        return None
    longest = max(fits, key=lambda run: (run.request.params["steps"] * run.request.params["batch"], run.name))
    return of_run(rundir.read(longest.path), "retrained")
