"""auditkit: proves whether a generative model has really forgotten."""
