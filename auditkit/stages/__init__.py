"""The Python API: every function takes requests and finished runs, and returns a finished run.

The command line calls nothing else; the plan_ functions say what a command would cost.
"""

from auditkit.stages.attack import attack
from auditkit.stages.audit import audit
from auditkit.stages.compare import compare
from auditkit.stages.evaluate import evaluate, evaluate_images
from auditkit.stages.exchange import bring, export, look
from auditkit.stages.judging import measured as cards
from auditkit.stages.plan import (
    default_costs,
    plan_attack,
    plan_audit,
    plan_compare,
    plan_evaluate,
    plan_pretrain,
    plan_sample,
    plan_suite,
    plan_unlearn,
)
from auditkit.stages.report import report
from auditkit.stages.sample import sample
from auditkit.stages.scan import scan
from auditkit.stages.selftest import selftest
from auditkit.stages.suite import suite
from auditkit.stages.train import pretrain, retrain, unlearn
from auditkit.stages.train_judge import train_judge

__all__ = [
    "attack",
    "audit",
    "bring",
    "cards",
    "compare",
    "default_costs",
    "evaluate",
    "evaluate_images",
    "export",
    "look",
    "plan_attack",
    "plan_audit",
    "plan_compare",
    "plan_evaluate",
    "plan_pretrain",
    "plan_sample",
    "plan_suite",
    "plan_unlearn",
    "pretrain",
    "report",
    "retrain",
    "sample",
    "scan",
    "selftest",
    "suite",
    "train_judge",
    "unlearn",
]
