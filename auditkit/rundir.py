"""Runs: sealed directories, the only thing that one stage hands to the next.

`run.json` (the request) is written first, `result.json` last and atomically, with the SHA-256 of every file. A run's
name and digest follow from its request and its results, never from time, host or path: the same request is the same
directory and is not computed twice; the same work done twice has the same digest. A digest commits to the parents'
digests, so the last one commits to the whole chain.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from auditkit import files, provenance
from auditkit.errors import RunError, UserError
from auditkit.results import Record, canonical, rounded, sha256

REQUEST, RESULT, CHECKPOINT, LOCKS = "run.json", "result.json", "checkpoint.safetensors", ".locks"
PART = "checkpoint.part"  # a large result on its way, beside its checkpoint
NAME = re.compile(r"[a-z0-9-]{1,80}")
POINTERS = ("latest", "latest-model")
UNSEALED = (RESULT, CHECKPOINT, PART)


class Request(Record):
    """Everything that decides a run's results, and nothing else. Parents map a word to a digest."""

    stage: str
    method: str
    role: str = "subject"
    classes: tuple[int, ...] = ()
    seed: int = 0
    params: dict[str, Any] = Field(default_factory=dict)
    parents: dict[str, str] = Field(default_factory=dict)
    data: str = ""
    schema_number: int = 1

    @property
    def name(self) -> str:
        """<stage>-<method>-c<class>-<12 hex>."""
        classes = f"-c{'-'.join(map(str, self.classes))}" if self.classes else ""
        return f"{self.stage}-{self.method}"[:50] + classes[:17] + "-" + sha256(canonical(self.model_dump()))[:12]


class Result(Record):
    """What a sealed run says about itself. `digest` is over the request and the files, not over times or machine."""

    digest: str
    files: dict[str, str]
    seconds: float
    details: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    machine: str = ""
    finished: str = ""


class Run(Record):
    """A run that is done: its folder, its request and its result."""

    path: Path
    request: Request
    result: Result

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def digest(self) -> str:
        return self.result.digest

    def file(self, name: str) -> Path:
        """The path of one of its sealed files. Raises RunError for a file that is not sealed in it."""
        if name not in self.result.files:
            raise RunError(f"{self.path.name} holds no {name}; it has {', '.join(sorted(self.result.files))}")
        return self.path / name

    def read_json(self, name: str) -> dict[str, Any]:
        return files.read_json(self.file(name))


def root() -> Path:
    """The folder that holds all runs: AUDITKIT_RUNS or ./runs."""
    return Path(os.environ.get("AUDITKIT_RUNS") or "runs")


def digest_of(request: Request, hashes: dict[str, str]) -> str:
    return sha256(canonical({"request": request.model_dump(), "files": hashes}))


class Open:
    """A run under way: write files into `path`, then `seal` it."""

    def __init__(self, path: Path, request: Request) -> None:
        self.path, self.request, self._start = path, request, time.monotonic()

    def write(self, name: str, data: bytes | str) -> None:
        files.write(self.path / name, data)

    def write_json(self, name: str, value: Any) -> None:
        """Seals a record, its floats rounded (results.rounded). Raises ValueError for NaN and infinity."""
        self.write(name, json.dumps(rounded(value), indent=1, sort_keys=True, allow_nan=False) + "\n")

    def seal(self, **details: Any) -> Run:
        """Hashes every file and writes result.json; after this the run is done and is never changed."""
        for kept in (CHECKPOINT, PART):
            (self.path / kept).unlink(missing_ok=True)
        for stale in self.path.rglob(".*.tmp"):
            stale.unlink()
        hashes = _hashes(self.path)
        result = Result(
            digest=digest_of(self.request, hashes),
            files=hashes,
            seconds=round(time.monotonic() - self._start, 3),
            details=details,
            versions=provenance.versions(),
            commit=provenance.commit(),
            machine=provenance.machine(),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        self.write(RESULT, result.model_dump_json(indent=1) + "\n")
        return Run(path=self.path, request=self.request, result=result)


@contextlib.contextmanager
def lock(request: Request, *, wait: bool = True, say: Callable[[str], None] = lambda _: None) -> Iterator[Run | Open]:
    """The run of this request: a `Run` if it is done, else an `Open` one, held by this process alone.

    A run that another process holds is waited for, or with `wait=False` refused. Raises RunError when a finished run
    has been altered since.
    """
    path, guard = root() / request.name, _guard(request.name)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise UserError(f"{path.name} is being computed by another process; wait for it or leave out --no-wait") from None
        say(f"waiting for {path.name}, which another process is computing")
        guard.acquire()
    try:
        if (path / RESULT).exists():
            yield read(path)
        else:
            _clear(path)
            files.write(path / REQUEST, json.dumps(request.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
            try:
                yield Open(path, request)
            except UserError:
                if not (path / CHECKPOINT).exists():  # refused before anything was computed: nothing is left behind
                    shutil.rmtree(path)
                raise
    finally:
        guard.release()


def _guard(name: str) -> FileLock:
    """The lock of a run. It lies beside the runs: a lock inside a folder that may be deleted guards nothing."""
    if root().exists() and not root().is_dir():
        raise UserError(f"{root()} is no folder: set AUDITKIT_RUNS to the folder that is to hold the runs")
    (root() / LOCKS).mkdir(parents=True, exist_ok=True)
    return FileLock(root() / LOCKS / name)


def _clear(path: Path) -> None:
    """Leaves nothing of an unfinished run but its checkpoint and part of a result: all else that is sealed, the try that seals it wrote."""
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; runs hold none")
    path.mkdir(exist_ok=True)
    for entry in path.iterdir():
        if entry.name not in (CHECKPOINT, PART) or entry.is_symlink():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def known(name: str) -> Run | None:
    """The finished run of that name, or None where it is gone, unfinished or unreadable. Its files are not hashed again."""
    path = root() / name
    if not NAME.fullmatch(name) or path.is_symlink() or not (path / RESULT).exists():
        return None
    try:
        return read(path, check=False)
    except (RunError, UserError):
        return None


def finished(*stages: str) -> Iterator[Run]:
    """Every readable finished run whose name starts with one of `stages`; one that is damaged stops nothing."""
    for path in listing():
        run = known(path.name) if path.name.startswith(stages) else None
        if run is not None:
            yield run


def by_digest() -> dict[str, Path]:
    """The folder of every readable finished run, by its digest."""
    return {run.digest: run.path for run in finished("")}


def find(name: str | Path) -> Run:
    """The finished run of that name or path. Raises UserError when there is none."""
    text = str(name)
    path = Path(text) if ("/" in text or os.sep in text) else root() / text
    if ".." in path.parts or not NAME.fullmatch(path.name):
        raise UserError(f"{text!r} is no run name: names match [a-z0-9-]{{1,80}}; see auditkit runs list")
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; give the run itself")
    if not path.is_dir():
        raise UserError(f"there is no run {path.name}; see auditkit runs list")
    if not (path / RESULT).exists():
        raise UserError(f"{path.name} is not finished; run the same command again and it goes on")
    return read(path)


def read(path: Path, *, check: bool = True) -> Run:
    """A finished run, every sealed file hashed again. Raises RunError when anything was altered."""
    try:
        request = Request.model_validate(files.read_json(path / REQUEST))
        result = Result.model_validate(files.read_json(path / RESULT))
    except ValueError as error:
        raise RunError(f"{path.name} cannot be read: {str(error).splitlines()[0]}; delete it with auditkit runs rm {path.name}") from error
    run = Run(path=path, request=request, result=result)
    if check:
        problems = verify(run)
        if problems:
            raise RunError(f"{path.name} was altered after it was sealed: {problems[0]}; delete it with auditkit runs rm {path.name}")
    return run


def verify(run: Run) -> list[str]:
    """What is wrong with a sealed run: changed, missing or added files, or a digest that does not follow from them."""
    found = _hashes(run.path)
    problems = [f"{name} is missing" for name in run.result.files if name not in found]
    problems += [f"{name} was added" for name in found if name not in run.result.files]
    problems += [f"{name} has changed" for name, value in run.result.files.items() if name in found and found[name] != value]
    if not problems and digest_of(run.request, found) != run.result.digest:
        problems.append("its digest does not follow from its request and files")
    if not problems and run.request.name != run.path.name:
        problems.append(f"its request belongs to {run.request.name}")
    return problems


def _hashes(path: Path) -> dict[str, str]:
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_symlink():
            raise RunError(f"{path.name} holds a symbolic link, {file.name}; runs hold none")
        if file.is_file() and file.name not in UNSEALED:
            found[file.relative_to(path).as_posix()] = files.sha256_file(file)
    return found


def point(pointer: str, run: Run) -> None:
    files.write(root() / pointer, run.name + "\n")


def pointed(pointer: str) -> Run | None:
    """The run that `latest` or `latest-model` names, or None before any."""
    path = root() / pointer
    if not path.is_file() or path.is_symlink():
        return None
    try:
        return find(path.read_text().strip())
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no pointer of ours: delete it") from error


def listing() -> list[Path]:
    """Every run directory, finished or not, by name."""
    base = root()
    return sorted(p for p in base.iterdir() if p.is_dir() and (p / REQUEST).exists()) if base.is_dir() else []


def remove(name: str) -> int:
    """Deletes a run, finished or not, and pointers to it. Returns the bytes freed."""
    path = root() / name
    if not NAME.fullmatch(name) or path.is_symlink() or not (path / REQUEST).exists():
        raise UserError(f"there is no run {name!r}; see auditkit runs list")
    try:
        with _guard(name).acquire(timeout=0):
            size = size_of(path)
            (path / RESULT).unlink(missing_ok=True)  # first, so that a kill half-way leaves an unfinished run, not an altered one
            shutil.rmtree(path)
    except Timeout:
        raise UserError(f"{name} is being computed by another process; end that first") from None
    for pointer in POINTERS:
        file = root() / pointer
        if file.is_file() and file.read_text().strip() == name:
            file.unlink()
    return size


def size_of(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
