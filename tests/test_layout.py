"""The layout that keeps auditkit simple and Hugging Face's `kernels` importable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("kernels", "attacks", "evaluators")

# Who may import whom: a package may import only what stands in its set (and itself).
KERNELS = {"auditkit_kernels"}
CORE = {"auditkit.errors", "auditkit.files", "auditkit.results", "auditkit.data", "auditkit.diffusion", "auditkit.models"}
CORE |= {"auditkit.folder_data", "auditkit.training", "auditkit.sampling", "auditkit.rundir", "auditkit.pictures", "auditkit.provenance"}
CORE |= {"auditkit.checkpoint", "auditkit.plugin", "auditkit.published", "auditkit.precision", "auditkit.solver", "auditkit.stack"}
CORE |= {
    "auditkit.decoding",
    "auditkit.npz",
    "auditkit.pack_data",
    "auditkit.schedule",
    "auditkit.torchvision_data",
    "auditkit.weight_sets",
}
CORE |= {
    "auditkit.captured",
    "auditkit.unet",
    "auditkit.dit",
    "auditkit.hub",
    "auditkit.latent",
    "auditkit.pipeline",
    "auditkit.stored",
    "auditkit.peers",
    "auditkit.peer_weights",
    "auditkit.peer_file",
}
MIDDLE = {"auditkit.unlearn", "auditkit.report", "auditkit_attacks", "auditkit_evaluators"}
JUDGING = {
    "auditkit.errors",
    "auditkit.files",
    "auditkit.results",
    "auditkit.data",
    "auditkit.folder_data",
    "auditkit.plugin",
}  # a judge never sees a generative model
STAGES = {"auditkit.stages"}
TOP = {
    "auditkit.settings",
    "auditkit.terminal",
    "auditkit.show",
    "auditkit.show_evaluation",
    "auditkit.bench",
    "auditkit.show_bench",
    "auditkit.show_compare",
    "auditkit.cli_compare",
    "auditkit.cli_bench",
    "auditkit.cli_attacks",
    "auditkit.cli_judges",
    "auditkit.cli_models",
    "auditkit.show_suite",
    "auditkit.show_card",
    "auditkit.options",
    "auditkit.cli_runs",
    "auditkit.cli",
}
ALLOWED = [
    (KERNELS, set()),
    (CORE, KERNELS | CORE),
    ({"auditkit_evaluators"}, KERNELS | JUDGING),
    (MIDDLE - {"auditkit_evaluators"}, KERNELS | CORE),
    (STAGES, KERNELS | CORE | MIDDLE),
    (TOP, KERNELS | CORE | MIDDLE | STAGES | TOP),
]


def group_of(module: str) -> str:
    """The entry of the tables above that a module belongs to: auditkit.stages.cell -> auditkit.stages."""
    parts = module.split(".")
    return parts[0] if parts[0] != "auditkit" else ".".join(parts[:2])


def imports(path: Path) -> set[str]:
    """The packages of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"auditkit.{a.name}" for a in node.names} if node.module == "auditkit" else {node.module}
    return {group_of(name) for name in found if name.split(".")[0].startswith("auditkit")}


def sources() -> list[tuple[str, Path]]:
    files = [p for folder in ("auditkit", *FOLDERS) for p in (ROOT / folder).rglob("*.py")]
    named = []
    for path in files:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        parts = parts if parts[0] == "auditkit" else parts[1:]
        named.append((".".join(p for p in parts if p != "__init__"), path))
    return [(module, path) for module, path in named if module not in ("auditkit", "auditkit.__main__")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_source_folder_holds_its_one_package_and_nothing_else(folder):
    """An __init__.py here would make `import kernels` ours wherever the checkout is on sys.path, and break Hugging Face's."""
    assert {p.name for p in (ROOT / folder).iterdir()} - {"__pycache__"} == {f"auditkit_{folder}"}


@pytest.mark.parametrize(("module", "path"), sources(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_point_one_way(module, path):
    mine = group_of(module)
    [allowed] = [may for group, may in ALLOWED if mine in group]
    assert imports(path) - {mine, "auditkit"} <= allowed, f"{module} imports upwards"


def test_help_imports_nothing_heavy():
    heavy = ("torch", "numpy", "sklearn", "diffusers", "scipy", "matplotlib")
    code = f"import sys; from auditkit.cli import run; run(['--help']); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_no_shipped_file_is_large():
    """Eleven bundled models, under 6 MB together; the base under 1.5 MB."""
    sizes = {p.parent.name: p.stat().st_size for p in (ROOT / "auditkit" / "zoo").rglob("diffusion_pytorch_model.safetensors")}
    assert len(sizes) == 11
    assert sizes["digits"] < 1_500_000
    assert sum(sizes.values()) < 6_000_000
