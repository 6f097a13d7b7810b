"""The lines of a comparison: methods with their settings, as somebody asked for them."""

import importlib
from dataclasses import dataclass
from typing import Any

from auditkit.errors import UserError, choose
from auditkit.stages.train import make_params
from auditkit.unlearn import METHODS


@dataclass(frozen=True)
class Entry:
    """One line of the table: a method with its settings, and what it is called there."""

    name: str
    method: str
    params: dict[str, Any]


def entry(text: str) -> Entry:
    """ "salun:objective=ga,lr=1e-3", or "LABEL@salun:lr=1e-3". Raises UserError for an unknown method or setting."""
    name, at, rest = text.partition("@")
    method, _, settings = (rest if at else text).partition(":")
    choose("method", method, METHODS)
    pairs = [part.partition("=") for part in settings.split(",")] if settings else []
    if not all(equals and key for key, equals, _ in pairs) or (at and not name.strip()):
        raise UserError(f"--method takes METHOD, METHOD:NAME=VALUE,NAME=VALUE or LABEL@METHOD:..., got {text!r}")
    label = name if at else text
    if label.endswith("(floor)") or "/" in label.removeprefix(method) or label.startswith("_") or not label.isprintable():
        raise UserError(f"a label is plain text without / that neither starts with _ nor ends with (floor), got {label!r}")
    if method == "retrain" and settings:
        raise UserError(f"retrain stands in a comparison as the floor that there is: set it in auditkit retrain, not in {text!r}")
    params = {key.replace("-", "_"): value for key, _, value in pairs}
    fit(Entry(text, method, params))
    return Entry(label, method, params)


def fit(made: Entry) -> Any:
    """The entry's settings as its method takes them. Raises UserError for one that no run could use."""
    return make_params(importlib.import_module(METHODS[made.method]).Params, made.params)
