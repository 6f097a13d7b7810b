"""DiMUM, unlearning by memorisation (https://arxiv.org/abs/2512.03564): the forgotten label memorises other images instead.

L = mean (eps - eps_theta(x_t, c_f))^2, x_0 from a fixed set of alternatives, + alpha L_r
L_r = mean (eps - eps_theta(x_t, c))^2, c != f

From its abstract and reviews, its body not being at hand: a retain loss beside an ordinary loss on alternative data that takes the
place of the forgotten, and that both converge. Our reading: which alternatives (`from_`: images of the next class, or of all the
others), how many (`alternatives`; few, so that they can be memorised), alpha and the recipe.
"""

from dataclasses import dataclass

import torch

from auditkit import data, models, training
from auditkit.errors import choose
from auditkit.unlearn import rows
from auditkit.unlearn.salun import following

FROM = ("next", "others")


@dataclass(frozen=True, kw_only=True)
class Params:
    """`batch` rows of each kind a step; `alternatives` images stand in for each forgotten class."""

    steps: int = 200
    lr: float = 1e-3
    schedule: str = "cosine"
    batch: int = 64
    alpha: float = 1.0
    alternatives: int = 32
    from_: str = "next"
    retain_class_dropout: float = 0.1

    def __post_init__(self) -> None:
        choose("from", self.from_, FROM)
        rows.check(self)


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
    """The original whose forgotten labels draw the alternatives; raw weights. Raises FloatingPointError when training diverges."""
    model = original.copy()
    images, labels = dataset.part("model", dataset.others(forget))
    stand_in = [_alternatives(images, labels, k, forget, model.null, params, seed) for k in forget]
    wrong = torch.tensor(forget).repeat_interleave(torch.tensor([len(x) for x in stand_in]))
    batches = rows.mixed(
        (model.encode(torch.cat(stand_in)), wrong),
        (model.encode(images), labels),
        batch=params.batch,
        null=model.null,
        weights=(1, params.alpha),
        marked=False,
        dropout=(0, params.retain_class_dropout),
        seed=seed,
        device=model.net.device,
    )
    recipe = training.Recipe(steps=params.steps, lr=params.lr, seed=seed, schedule=params.schedule)
    training.fit(model.net, batches, recipe, state=state, save=save, report=report)
    return model


def forget_loss(params: Params, forget: tuple[int, ...], null: int) -> training.ForgetLoss:
    """The ordinary loss on images of other classes under the forgotten label."""
    return training.ForgetLoss(marked=False, held="others")


def _alternatives(
    images: torch.Tensor, labels: torch.Tensor, k: int, forget: tuple[int, ...], null: int, params: Params, seed: int
) -> torch.Tensor:
    """uint8 images in place of class k, the same in every step; all there are where there are fewer."""
    if params.from_ == "next":
        images = images[labels == following(forget, null)[k]]
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[chosen[: params.alternatives]]
