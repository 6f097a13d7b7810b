"""A function of the user's own, named on the command line as module:function.

The module is looked for on the path and in the working folder, and only because the command line names it: no file, variable or run
can bring one in. The hash of that one file is part of a result; what it imports is not.
"""

import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from auditkit.errors import UserError

IMPORTED: dict[str, str] = {}  # file to the hash that it had when this process imported it
SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check(option: str, spec: str) -> str:
    """`spec`, if it is "module:function". Raises UserError."""
    if not SPEC.fullmatch(spec):
        raise UserError(f"{option} takes a plug-in as module:function, got {spec!r}")
    return spec


def find(option: str, spec: str) -> tuple[Any, Any, str]:
    """The module, the function and the hash of the file that it stands in. Raises UserError when there is none."""
    module_name, _, function_name = check(option, spec).partition(":")
    here, fresh = str(Path.cwd()), module_name not in sys.modules
    sys.path.insert(0, here)
    try:
        with quiet():
            module = import_module(module_name)
    except (Exception, SystemExit) as error:  # a plug-in can fail in any way while it is imported, and must not end the command
        raise UserError(f"{option} {spec}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"{option} {spec}: {module_name} has no function {function_name}")
    file = getattr(module, "__file__", None)
    if not file:
        raise UserError(f"{option} {spec}: {module_name} is no file, so that it cannot be hashed into the result")
    now = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    if fresh:
        IMPORTED[file] = now
    if IMPORTED.setdefault(file, now) != now:  # the old code would run under the new hash
        raise UserError(f"{option} {spec}: {Path(file).name} was changed after it was imported; start again")
    return module, function, now


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a plug-in prints goes to stderr: stdout carries data alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def slug(text: str) -> str:
    """`text` as a part of a run's name: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
