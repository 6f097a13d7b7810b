"""Unlearning methods, one per file: `Params` and `run(original, dataset, forget, params, *, seed, ...) -> Model`."""

METHODS = {
    "safemax": "auditkit.unlearn.safemax",
    "salun": "auditkit.unlearn.salun",
    "selective-amnesia": "auditkit.unlearn.selective_amnesia",
    "esd": "auditkit.unlearn.esd",
    "dimum": "auditkit.unlearn.dimum",
    "random-label": "auditkit.unlearn.random_label",
    "gradient-ascent": "auditkit.unlearn.gradient_ascent",
    "gate": "auditkit.unlearn.gate",
    "retrain": "auditkit.unlearn.retrain",
}
