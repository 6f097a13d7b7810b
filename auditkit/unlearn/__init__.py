"""Unlearning methods, one per file: `Params` and `run(original, dataset, forget, params, *, seed, ...) -> Model`."""

METHODS = {
    "safemax": "auditkit.unlearn.safemax",
    "gate": "auditkit.unlearn.gate",
    "retrain": "auditkit.unlearn.retrain",
}
