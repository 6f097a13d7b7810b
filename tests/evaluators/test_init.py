"""Names to judges, and nothing heavy before a judge is asked for."""

import subprocess
import sys
from importlib import import_module

import pytest

import auditkit_evaluators
from auditkit.errors import UserError


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "sklearn", "scipy", "open_clip", "numpy")
    code = f"import sys; sys.path[:0] = {sys.path!r}; import auditkit_evaluators; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_a_module_with_build():
    for path in auditkit_evaluators.JUDGES.values():
        assert callable(import_module(path).build)


def test_every_measure_has_compare():
    for path in auditkit_evaluators.MEASURES.values():
        assert callable(import_module(path).compare)


def test_names_are_judges_measures_members_or_plugins(digits):
    assert [auditkit_evaluators.check(n) for n in ("clip", "noise", "svc", "mine:judge")] == ["clip", "noise", "svc", "mine:judge"]
    assert [auditkit_evaluators.speaks(n) for n in ("clip", "noise", "svc")] == [True, False, True]
    assert [j.name for j in auditkit_evaluators.build(["knn", "svc", "density"], digits)] == ["svc", "knn"]
    for wrong in ("a:b:c", ":x", "x:", "../x:y"):
        with pytest.raises(UserError, match="takes a plug-in as module:function"):
            auditkit_evaluators.check(wrong)


def test_unknown_names_are_refused_before_anything_is_fitted(digits):
    with pytest.raises(UserError, match=r"unknown judge 'clipp'\. Did you mean 'clip'"):
        auditkit_evaluators.build(["ensemble", "clipp"], digits)


def test_build_passes_the_model_on_and_builds_a_name_once(digits):
    judges = auditkit_evaluators.build(["clip", "clip"], digits)
    assert [judge.name for judge in judges] == ["clip"]
    with pytest.raises(UserError, match="is no folder"):
        auditkit_evaluators.build(["clip"], digits, clip_model="local-dir:/nowhere")
