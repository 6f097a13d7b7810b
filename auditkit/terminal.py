"""What people see: progress with ETA and tables on stderr; stdout carries data alone."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console as Rich
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from auditkit.results import Measure

err = Rich(stderr=True, highlight=False)
PLAIN_SECONDS = 10.0


def plain(text: str, longest: int = 2000) -> str:
    """Foreign text without control characters (a file's name could move the cursor or rename the window) and markup, cut."""
    return escape("".join(c if c.isprintable() or c == "\n" else "?" for c in text[:longest]))


def say(text: str) -> None:
    """One line on stderr, foreign text made plain."""
    err.print(plain(text), soft_wrap=True)


class Said(logging.Handler):
    """What the library logs, as lines on stderr, each once: two models of a command may have the same to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.lines:
            self.lines.add(text)
            say(f"! {text}")


def show_log() -> None:
    """From now on the library's warnings are lines on stderr."""
    log = logging.getLogger("auditkit")
    log.handlers = [h for h in log.handlers if not isinstance(h, Said)] + [Said()]


def fail(word: str, text: str) -> None:
    """The one line of an error."""
    err.print(f"[bold red]{word}:[/] {plain(text)}", soft_wrap=True)


@contextlib.contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with ETA on a terminal; elsewhere a plain line every 10 s. Gives `advance(done)`."""
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(escape(title), total=total)
            yield lambda done: progress.update(task, completed=done)
        return
    start = last = time.monotonic()

    def advance(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > PLAIN_SECONDS and done:
            last = now
            say(f"{title}: {done}/{total}, ETA {(now - start) / done * (total - done):.0f} s")

    yield advance


def cell(measure: Measure) -> str:
    """A table cell of two lines: the share in percent, and its interval below."""
    if measure.value is None:
        return "not mea-\nsured"
    return f"{100 * measure.value:.0f}\n[dim]{100 * (measure.low or 0):.0f}-{100 * (measure.high or 0):.0f}[/dim]"


def table(title: str, columns: list[str], rows: Sequence[tuple[str, ...]], *, sections: tuple[int, ...] = (), caption: str = "") -> None:
    """A table on stderr that fits 80 columns; the first column is text, the others numbers. A rule follows each row in `sections`."""
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, title_justify="left", caption_justify="left")
    shown.title, shown.caption = title, caption
    for k, name in enumerate(columns):
        shown.add_column(name, justify="left" if k == 0 else "right", no_wrap=True)
    for k, row in enumerate(rows):
        shown.add_row(*row, end_section=k in sections)
    err.print()
    err.print(shown)
    err.print()


def bytes_text(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def run_line(run: Any) -> str:
    return f"{run.path}  digest {run.digest}"
