"""Attacks, one per file: a frozen `Budget`, a `TIER`, and `run(target, budget, *, seed, ...) -> AttackResult`."""

ATTACKS = {
    "relearn": "auditkit_attacks.relearn",
    "finetune": "auditkit_attacks.finetune",
}
