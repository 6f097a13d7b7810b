"""The Python API: every function takes requests and finished runs, and returns a finished run.

The command line calls nothing else. Each is imported when first used: unlearning needs no judge.
"""

import importlib
from typing import Any

_WHERE = {
    "pretrain": "train",
    "retrain": "train",
    "unlearn": "train",
    "sample": "sample",
    "attack": "attack",
    "evaluate": "evaluate",
    "audit": "audit",
    "plan_unlearn": "plan",
    "plan_attack": "plan",
    "plan_evaluate": "plan",
    "plan_audit": "plan",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"auditkit.stages has no {name!r}")
    return getattr(importlib.import_module(f"auditkit.stages.{_WHERE[name]}"), name)
