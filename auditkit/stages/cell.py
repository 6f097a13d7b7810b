"""How a stage computes one run: locked, resumed from its checkpoint, sealed; and several of them side by side."""

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from auditkit import files, rundir, training
from auditkit.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc

Track = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def _silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


@dataclass(frozen=True)
class Console:
    """Where a stage reports to, and how it may work: the command line gives one that prints, the default is silent.

    `track(title, total)` is a context manager that gives `advance(done)`; `jobs` processes work side by side.
    """

    say: Callable[[str], None] = lambda _: None
    track: Track = _silent
    wait: bool = True
    jobs: int = 1


SILENT = Console()


def compute(
    request: rundir.Request,
    work: Callable[[rundir.Open, training.State | None, training.Save], dict[str, Any]],
    console: Console,
) -> rundir.Run:
    """The finished run of `request`: found, or computed by `work(open_run, state, save)`, which returns unsealed details.

    `state` is what an interrupted try saved last; `save` replaces that atomically.
    """
    prepare()
    with rundir.lock(request, wait=console.wait, say=console.say) as run:
        if isinstance(run, rundir.Run):
            console.say(f"{run.name} is already computed")
            return run
        state = _load(run.path / rundir.CHECKPOINT, console.say)
        if state:
            console.say(f"{run.path.name} goes on from step {state.step}")
        details = work(run, state, lambda s: _save(run.path / rundir.CHECKPOINT, s))
        return run.seal(**details)


def _elsewhere(root: str, here: str, function: Callable[..., rundir.Run], arguments: dict[str, Any]) -> None:
    """One call in a worker process, which may be older than this folder of runs and stand in another directory."""
    os.environ["AUDITKIT_RUNS"] = root
    logging.getLogger("auditkit").addHandler(logging.NullHandler())  # the process that was asked has said it
    os.chdir(here)  # plug-ins and models are named from there
    function(**arguments)


def prepare() -> None:
    """One thread per process, and memory that is kept instead of handed back to the system after every layer."""
    if torch.cuda.is_available():
        return
    torch.set_num_threads(1)  # two threads on a busy machine were up to 40 times slower, on an idle one they gained nothing
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without mallopt
            libc = ctypes.CDLL(None)
            for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):  # sampling 500 digits: 2.4 s without, 1.7 s with it
                libc.mallopt(option, 2**29)


def _save(path: Path, state: training.State) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()}
    files.write(path, to_bytes(tensors, metadata={"step": str(state.step)}))


def _load(path: Path, say: Callable[[str], None]) -> training.State | None:
    if not path.exists():
        return None
    try:
        with safe_open(files.check_safetensors(path), framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping: it cannot be iterated)
            return training.State(int(stored.metadata()["step"]), tensors)
    except (UserError, SafetensorError, KeyError, TypeError, ValueError) as error:
        say(f"{path.parent.name}: its checkpoint cannot be read ({error}); starting over")
        path.unlink()
        return None


def side_by_side(calls: list[tuple[Callable[..., rundir.Run], dict[str, Any]]], title: str, console: Console) -> None:
    """Runs every call; with several jobs in processes of one thread each. Each call leaves a finished run, which is its result.

    Random numbers are keyed, so the runs are the same for any number of processes.
    """
    jobs = min(console.jobs, len(calls))
    with console.track(title, len(calls)) as advance:
        if jobs <= 1 or torch.cuda.is_available():
            for done, (function, arguments) in enumerate(calls):
                function(**arguments, console=Console(wait=console.wait))
                advance(done + 1)
            return
        from joblib import Parallel, delayed

        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        results = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_elsewhere)(str(rundir.root().resolve()), os.getcwd(), function, {**arguments, "console": Console(wait=console.wait)})
            for function, arguments in calls
        )
        for done, _ in enumerate(results):
            advance(done + 1)
