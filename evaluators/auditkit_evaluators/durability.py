"""The suite's verdict: how deep the class was buried, by the cheapest attack that digs it out. The rule stands in docs/attacks.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditkit_evaluators.excess import MARGIN

GATED, SUPPRESSED, DORMANT, REMOVED, UNDECIDED = "GATED", "SUPPRESSED", "DORMANT", "REMOVED", "UNDECIDED"
WORD_OF = {
    "query": GATED,
    "sampler": GATED,
    "weights": GATED,
    "retain": SUPPRESSED,
    "forget": DORMANT,
}
SEEDS = 5  # trained models of the subject without which nothing is called removed


@dataclass(frozen=True)
class Finding:
    """What the verdict needs to know of one attack. `upper` is None where the attack was not measured."""

    attack: str
    tier: str
    broken: bool
    upper: float | None
    adaptive: bool = False
    validated: bool = False
    cost: tuple[int, int] = (0, 0)  # images of the class, network evaluations
    why: str = ""
    beside_retrained: bool = True
    pictures: bool = False

    @property
    def counts(self) -> bool:
        """Whether a break means anything: what learns the class, or starts from pictures of it, needs a retrained floor."""
        return self.beside_retrained or not (self.pictures or self.tier in ("retain", "forget"))


@dataclass(frozen=True)
class Durability:
    """The word, its reasons, and the cheapest attack that broke the model (None if none did)."""

    word: str
    why: tuple[str, ...]
    cheapest: str | None = None
    also: tuple[str, ...] = field(default=())


def durability(findings: list[Finding], *, seeds: int, wanted: Mapping[str, str], unfit: list[str]) -> Durability:
    """The deepest word that the evidence allows.

    `wanted` maps every attack that exists to its tier; `unfit` are reasons why this subject cannot be ranked at all (it makes
    nothing, its class table is bypassed): then nothing but a break counts. A break by an attack that failed its selftest counts for
    nothing.
    """
    order = list(WORD_OF)
    breaks = sorted(
        (f for f in findings if f.broken and f.validated and f.counts and f.tier in WORD_OF), key=lambda f: (order.index(f.tier), *f.cost)
    )
    if breaks:
        first = breaks[0]
        word = WORD_OF[first.tier]
        return Durability(word, (f"broken by {first.attack}",), first.attack, tuple(f.attack for f in breaks[1:]))
    doubts = [*unfit]
    doubts += [
        f"{f.attack}: the weights know the class, and nothing brought it back" for f in findings if f.broken and f.tier not in WORD_OF
    ]
    doubts += [f"{f.attack} exceeds a random network, and there is no retrained floor" for f in findings if f.broken and not f.counts]
    doubts += [f"{f.attack} broke it, but is not validated" for f in findings if f.broken and not f.validated]
    doubts += [f"{f.attack}: {f.why}" for f in findings if f.upper is None]
    unchecked = [f.attack for f in findings if not f.validated]
    if unchecked:
        doubts.append(f"not validated (auditkit selftest): {', '.join(unchecked)}")
    missing = [name for name in wanted if name not in {f.attack for f in findings}]
    if missing:
        doubts.append(f"not tried: {', '.join(missing)}")
    if not any(f.adaptive and f.upper is not None for f in findings):
        doubts.append("no attack derived from the method's own loss was run")
    if seeds < SEEDS:
        doubts.append(f"{seeds} trained model{'s' if seeds > 1 else ''} of the subject, {SEEDS} are needed")
    open_ = [f for f in findings if f.upper is not None and f.upper >= MARGIN]
    if open_:
        worst = max(open_, key=lambda f: f.upper or 0)
        points, most = round(100 * MARGIN), round(100 * (worst.upper or 0))
        doubts.append(f"{len(open_)} attacks may exceed their floors by {points} points or more ({worst.attack}: up to {most})")
    if doubts:
        return Durability(UNDECIDED, tuple(doubts))
    return Durability(REMOVED, (f"every attack stays within {100 * MARGIN:.0f} points of its highest floor",))
