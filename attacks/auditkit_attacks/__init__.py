"""Attacks, one per file: a frozen `Budget`, a `TIER`, and `run(target, budget, *, seed, ...) -> AttackResult`.

In the order of what they cost the attacker; the suites are lists of these names and have no settings of their own.
"""

import importlib
from typing import Any

ATTACKS = {
    "repeat": "auditkit_attacks.repeat",
    "null-harvest": "auditkit_attacks.null_harvest",
    "wrong-label": "auditkit_attacks.wrong_label",
    "guidance-sweep": "auditkit_attacks.guidance_sweep",
    "sampler-sweep": "auditkit_attacks.sampler_sweep",
    "partial": "auditkit_attacks.partial",
    "arithmetic": "auditkit_attacks.arithmetic",
    "handoff": "auditkit_attacks.handoff",
    "readout": "auditkit_attacks.readout",
    "rescale": "auditkit_attacks.rescale",
    "embedding": "auditkit_attacks.embedding",
    "quantise": "auditkit_attacks.quantise",
    "reversal": "auditkit_attacks.reversal",
    "finetune": "auditkit_attacks.finetune",
    "auxiliary": "auditkit_attacks.auxiliary",
    "inversion": "auditkit_attacks.inversion",
    "lora": "auditkit_attacks.lora",
    "relearn": "auditkit_attacks.relearn",
    "relearn-all": "auditkit_attacks.relearn_all",
    "weights": "auditkit_attacks.weights",
    "edit-depth": "auditkit_attacks.edit_depth",
    "null-likelihood": "auditkit_attacks.null_likelihood",
    "membership": "auditkit_attacks.membership",
}
AUDITED = ("relearn", "finetune")  # what `audit` runs: a first answer in minutes, not a suite

QUICK = (
    "repeat", "null-harvest", "wrong-label", "guidance-sweep", "sampler-sweep", "arithmetic", "handoff", "readout", "rescale",
    "embedding", "quantise", "reversal", "finetune", "relearn", "weights", "edit-depth", "null-likelihood",
)  # fmt: skip
# Where a suite spends more than a single attack does: with 100 images a point, relearn left +25 points [+4, ...] on a planted leak, partial
# +21 [+3, ...]; with 2000, null-harvest +5.8 [+4.7, ...] clean ones, where nothing but the null branch was left.
BUDGETS: dict[str, dict[str, int]] = {
    "relearn": {"n": 200},
    "relearn-all": {"n": 150},
    "partial": {"n": 200},
    "null-harvest": {"n": 8000},
}
# What `full` spends beyond the default budgets: hypotheses about retain-only fine-tuning speak of a thousand steps.
LONGER: dict[str, dict[str, int]] = {"finetune": {"steps": 1000}, "auxiliary": {"steps": 1000}, "relearn-all": {"steps": 500}}
SUITES = {"quick": QUICK, "standard": tuple(ATTACKS), "full": tuple(ATTACKS)}


def module_of(name: str) -> Any:
    """The module of an attack of ours, or what a plug-in module:function offers. Raises UserError for a plug-in that is none."""
    if ":" in name:
        from auditkit_attacks import plugin

        return plugin.load(name)
    return importlib.import_module(ATTACKS[name])
