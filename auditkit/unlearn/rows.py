"""The rows of a step that most methods train on: `batch` rows to forget, then `batch` rows to keep. And what their settings share."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from auditkit import training
from auditkit.errors import UserError, choose

LARGEST = 10**7  # beyond it float32 weights overflow and no schedule ends
WHOLE = ("steps", "batch", "replay", "alternatives", "fisher_images", "fisher_timesteps")
WEIGHTS = ("lam", "alpha", "beta", "gamma", "eta")
SHARES = ("class_dropout", "retain_class_dropout", "forget_class_dropout", "fisher_class_dropout")


def check(params: Any) -> None:
    """Raises UserError for a setting, of those that methods share, which no run could use."""
    choose("schedule", params.schedule, training.SCHEDULES)
    for name in params.__dataclass_fields__:
        value, option = getattr(params, name), name.replace("_", "-")
        if name in WHOLE and not 1 <= value <= LARGEST:
            raise UserError(f"--{option} must be at least 1 and at most {LARGEST:g}, got {value}")
        if name in WEIGHTS and not 0 <= value <= LARGEST:  # not for NaN either
            raise UserError(f"--{option} must be at least 0 and at most {LARGEST:g}, got {value}")
        if name in SHARES and not 0 <= value <= 1:
            raise UserError(f"--{option} must lie in 0..1, got {value}")
    if not (math.isfinite(params.lr) and params.lr > 0):
        raise UserError(f"--lr must be a positive number, got {params.lr}")


def mixed(
    forget: tuple[Tensor, Tensor],
    retain: tuple[Tensor, Tensor],
    *,
    batch: int,
    null: int,
    weights: tuple[float, float],
    marked: bool,
    dropout: tuple[float, float],
    seed: int,
    device: torch.device | str = "cpu",
    draw: Callable[[int, Tensor], Tensor] | None = None,
) -> Callable[[int], training.Batch]:
    """The rows of each step from (x_0 float (N, C, H, W), labels (N,)) of both kinds, drawn with replacement.

    `weights` and `dropout` (share of labels replaced by the null class) are those of forget and retain rows; with `marked` the forget rows
    go down the forget loss, else the ordinary one; `draw(step, x)` replaces the x_0 of the forget rows. All of it stays on `device`.
    """
    forget, retain = ((x.to(device), labels.to(device)) for x, labels in (forget, retain))
    first = torch.arange(2 * batch, device=device) < batch
    weight = torch.where(first, weights[0] / batch, weights[1] / batch)
    is_forget = first & marked

    def rows(step: int) -> training.Batch:
        x_f, c_f = training.draw_rows(*forget, batch, seed=seed, step=step)
        x_f = draw(step, x_f) if draw else x_f
        x_r, c_r = training.draw_rows(*retain, batch, seed=seed, step=step, row0=batch)
        c_f = training.drop_labels(c_f, null, dropout[0], seed=seed, step=step)
        c_r = training.drop_labels(c_r, null, dropout[1], seed=seed, step=step, row0=batch)
        return training.Batch(torch.cat([x_f, x_r]), torch.cat([c_f, c_r]), is_forget, weight)

    return rows
