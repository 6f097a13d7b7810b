"""The two ways in which a command ends early on purpose, and the sentence for an unknown name."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user gave cannot be used: one line with what was wanted, what came and what to do; exit 2, nothing written."""


class RunError(RuntimeError):
    """A run directory cannot be used or a run failed half-way: one line, exit 1; what was computed is kept."""


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """`name`, if it is known. Raises UserError with the nearest known name and the whole list."""
    known = tuple(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")
