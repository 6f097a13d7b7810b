"""An attack of the user's own: `--attack module:function`, a module with a `Budget`, a `TIER` and that function as `run`.

auditkit gives it a target filled in up to its tier, runs it on the subject and on every control, and counts hits in its images itself.
"""

from dataclasses import is_dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch

from auditkit import plugin
from auditkit.errors import UserError, choose
from auditkit_attacks.target import CHOSEN, TIERS, AttackResult, Cost, NotApplicable, Point, Target

OPTION = "--attack"


def load(spec: str) -> Any:
    """What a module of ours offers (Budget, TIER, NEEDS, run, ...), with `sha`, the hash of the plug-in's file.

    Raises:
        UserError: it cannot be imported, has no frozen Budget, no known TIER, fails, or gives back what is no result.
    """
    module, function, sha = plugin.find(OPTION, spec)
    budget, tier = getattr(module, "Budget", None), getattr(module, "TIER", None)
    if not (isinstance(budget, type) and is_dataclass(budget)) or not budget.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{OPTION} {spec}: {module.__name__} needs a frozen dataclass Budget, its settings (docs/attacks.md)")
    if not isinstance(tier, str):
        raise UserError(f"{OPTION} {spec}: {module.__name__} needs a TIER, one of {', '.join(TIERS)}")
    choose(f"TIER of {module.__name__}", tier, TIERS)

    def run(target: Target, budget: Any, **options: Any) -> AttackResult:
        try:
            with plugin.quiet():
                result = function(target, budget, **options)
        except (NotApplicable, FloatingPointError, UserError):
            raise
        except (Exception, SystemExit) as error:  # whatever it raises is its author's to mend
            raise UserError(f"{OPTION} {spec} failed: {type(error).__name__}: {error}") from error
        problem = wrong(result, target)
        if problem:
            raise UserError(f"{OPTION} {spec}: {problem}")
        return counted(result, target)

    names = {key: getattr(module, key) for key in ("NEEDS", "ADAPTIVE", "VERSION", "FLOORS") if hasattr(module, key)}
    return SimpleNamespace(Budget=budget, TIER=tier, run=run, sha=sha, **names)


def wrong(result: Any, target: Target) -> str | None:
    """What is wrong with a plug-in's result, or None."""
    if not isinstance(result, AttackResult) or not isinstance(result.curve, tuple) or not result.curve:
        return f"wanted an AttackResult with a tuple of at least one point, got {type(result).__name__}"
    if not all(isinstance(p, Point) for p in result.curve) or not isinstance(result.cost, Cost) or not isinstance(result.images, dict):
        return "an AttackResult has Points, a Cost and a dict of images"
    if any("/" in p.setting or p.step < 0 or not 0 <= p.hits <= p.n or p.n < 1 for p in result.curve):
        return "a point has a setting without '/', a step, and 0 to n hits of at least one image"
    for key, images in result.images.items():
        right = isinstance(images, torch.Tensor) and images.dtype == torch.uint8 and tuple(images.shape[1:]) == target.image_shape
        if not right or not len(images):
            shape = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
            return f"images {key!r}: wanted uint8 (n, {', '.join(map(str, target.image_shape))}), got {shape}"
    points = {f"{p.setting}/{p.step}" for p in result.curve}
    if not set(result.images) <= points | {CHOSEN}:
        return f"images are named by their point, setting/step; got {', '.join(sorted(set(result.images) - points))}"
    return None


def counted(result: AttackResult, target: Target) -> AttackResult:
    """The result with hits that the attacker's judge counts in its images; a point without images keeps the attack's own count, and says
    so."""
    judged = {key: (target.score(images), len(images)) for key, images in result.images.items()}
    curve = tuple(
        p.model_copy(update=dict(zip(("hits", "n"), judged[f"{p.setting}/{p.step}"], strict=True)))
        if f"{p.setting}/{p.step}" in judged
        else p
        for p in result.curve
    )
    own = [f"{p.setting}/{p.step}" for p in result.curve if f"{p.setting}/{p.step}" not in judged]
    notes = (*result.notes, *((f"counted by the attack itself, without images: {', '.join(own)}",) if own else ()))
    return replace(result, curve=curve, notes=notes)
