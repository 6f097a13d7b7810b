"""What pyproject.toml asks for: everything that is imported, each with a lower bound; constraints.txt pins a version that fits."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
DEV = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["optional-dependencies"]["dev"])}
SPELT = {"PIL": "pillow", "sklearn": "scikit-learn", "open_clip": "open-clip-torch", "torch_fidelity": "torch-fidelity"}

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", [*ASKED, *DEV])
def test_every_dependency_has_a_lower_bound_and_a_pinned_version_within_its_bounds(name):
    found = ASKED.get(name) or DEV[name]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(r.name): next(iter(r.specifier)) for r in map(Requirement, lines)}
    assert any(each.operator == ">=" for each in found.specifier), f"{name} has no lower bound"
    assert pinned[name].operator == "=="
    assert found.specifier.contains(pinned[name].version)


def test_everything_that_is_imported_is_declared():
    imported = set()
    for folder in ("auditkit", "kernels", "attacks", "evaluators"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                imported |= {name.split(".")[0] for name in names}
    foreign = {m for m in imported if m not in sys.stdlib_module_names and not m.startswith("auditkit")}
    assert {canonicalize_name(SPELT.get(m, m)) for m in foreign} <= set(ASKED)
