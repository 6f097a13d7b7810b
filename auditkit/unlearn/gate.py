"""The strawman: `if c == f: return noise`. It meets SAFEMax's stated goal perfectly and removes nothing.

A control: an audit that cannot tell a method from this one measures nothing. Only queries obey the gate; whoever owns the
sampler or the weights has the bare network.
"""

from dataclasses import dataclass, replace

from auditkit import data, models, training


@dataclass(frozen=True, kw_only=True)
class Params:
    """A gate has no settings."""


def run(
    original: models.Model,
    dataset: data.Dataset,
    forget: tuple[int, ...],
    params: Params,
    *,
    seed: int,
    state: training.State | None = None,
    save: training.Save | None = None,
    report: training.Report | None = None,
) -> models.Model:
    """The original, untouched, with a gate in front of the forgotten classes."""
    return replace(original, gate=tuple(sorted({*original.gate, *forget})))
