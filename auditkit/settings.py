"""Where a setting's value comes from: defaults < auditkit.toml < AUDITKIT_* < --set name=value < the option itself.

`auditkit.toml` in the working directory holds one table per command ([unlearn], [relearn], [evaluate], ...);
the environment spells the same as AUDITKIT_<COMMAND>_<NAME>. Unknown names are errors with a suggestion.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from auditkit.errors import UserError, choose

FILE = Path("auditkit.toml")
RESERVED = ("AUDITKIT_RUNS", "AUDITKIT_DATA", "AUDITKIT_DEBUG")


def gather(
    command: str, known: dict[str, Any], assignments: list[str], options: dict[str, Any], others: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The settings of one command by name, lowest source first. `known` holds the names it takes, `others` the other commands'.

    Options that are None were not given. Raises UserError for an unknown command table or setting.
    """
    values: dict[str, Any] = {}
    for table, entries in _toml().items():
        choose("table in auditkit.toml", table, (command, *others))
        if not isinstance(entries, dict):
            raise UserError(f"auditkit.toml: {table} must be a table like [{command}], got {entries!r}")
        if table == command:
            values |= {_known(name, known): value for name, value in entries.items()}
    prefix = f"AUDITKIT_{command.upper().replace('-', '_')}_"
    commands = [f"AUDITKIT_{name.upper().replace('-', '_')}_" for name in (command, *others)]
    for variable, value in os.environ.items():
        if variable.startswith("AUDITKIT_") and variable not in RESERVED and not variable.startswith(tuple(commands)):
            choose("variable", variable, (*RESERVED, *(f"{name}..." for name in commands)))
        if variable.startswith(prefix):
            values[_known(variable.removeprefix(prefix).lower(), known)] = value
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set takes name=value, got {assignment!r}")
        values[_known(name, known)] = value
    return values | {name: value for name, value in options.items() if value is not None}


def _known(name: str, known: dict[str, Any]) -> str:
    return choose("setting", name.strip().replace("-", "_"), known)


def _toml() -> dict[str, Any]:
    if not FILE.exists():
        return {}
    if not FILE.is_file():
        raise UserError("auditkit.toml is no file")
    try:
        return tomllib.loads(FILE.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"auditkit.toml is not valid TOML: {error}") from error
