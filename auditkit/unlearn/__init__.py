"""Unlearning methods, one per file: `Params` and `run(original, dataset, forget, params, *, seed, ...) -> Model`."""

METHODS = {
    "safemax": "auditkit.unlearn.safemax",
    "salun": "auditkit.unlearn.salun",
    "random-label": "auditkit.unlearn.random_label",
    "gradient-ascent": "auditkit.unlearn.gradient_ascent",
    "gate": "auditkit.unlearn.gate",
    "retrain": "auditkit.unlearn.retrain",
}
