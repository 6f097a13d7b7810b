"""torch-fidelity 0.4 on rows of features: its metrics, without its extractors, loaders and cache.

It is handed features as a data set of rows, and an extractor that hands them on. So it sees no weights, can neither unpickle them
nor mix two up: its cache knows an extractor by name alone, and gave an FID of 11.0 for .05 when the weights had changed.
"""

import numpy as np
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from auditkit_evaluators.votes import Floats

NAME = "auditkit-rows"
KID_SUBSETS, KID_SUBSET = 100, 1000  # torch-fidelity's defaults
NEIGHBOURS = 3  # of precision and recall, as in guided-diffusion's evaluator


class _Rows(Dataset[Tensor]):
    def __init__(self, rows: Floats) -> None:
        self.rows = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        return self.rows[i]


class _HandOn(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity ships no types
    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("rows",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "rows"

    def forward(self, rows: Tensor) -> tuple[Tensor]:
        return (rows,)


def fid(fake: Floats, real: Floats) -> float:
    """Frechet distance of Gaussians fitted to `fake` (N, D) and `real` (M, D), squared units of the features.

    Heusel et al. (2017), https://arxiv.org/abs/1706.08500.
    """
    return _calculate(fake, real, fid=True)["frechet_inception_distance"]


def kid(fake: Floats, real: Floats, seed: int) -> tuple[float, float]:
    """Unbiased MMD^2 with kernel (x.y / D + 1)^3 (it can be below 0), the mean over 100 random subsets, and its standard error.

    Subsets are of m = min(N / 2, 1000) of the N images a side, drawn without replacement; the error is the delete-d jackknife's,
    their sd times sqrt(m / (N - m)) (Shao and Wu 1989). Binkowski et al. (2018), https://arxiv.org/abs/1801.01401.
    """
    n = min(len(fake), len(real))
    size = min(n // 2, KID_SUBSET)
    found = _calculate(fake, real, kid=True, kid_subset_size=size, kid_subsets=KID_SUBSETS, rng_seed=seed)
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"] * (size / (n - size)) ** 0.5


def precision_recall(fake: Floats, real: Floats) -> tuple[float, float]:
    """Share of `fake` in the 3-nearest-neighbour balls of `real`, and the other way round (Kynkaanniemi 2019, arXiv 1904.06991)."""
    found = _calculate(fake, real, prc=True, prc_neighborhood=NEIGHBOURS)
    return found["precision"], found["recall"]


def inception_score(logits: Floats) -> float:
    """exp of the mean divergence of each row's softmax (N, K) from their mean, in one split: 1 to K (Salimans 2016, arXiv 1606.03498)."""
    return _calculate(logits, None, isc=True, isc_splits=1)["inception_score_mean"]


def _calculate(first: Floats, second: Floats | None, **options: object) -> dict[str, float]:
    # The registry belongs to the process and refuses a name twice. torch-fidelity starts four workers unless told to save memory.
    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(NAME, _HandOn)
    inputs = {"input1": _Rows(first)} | ({} if second is None else {"input2": _Rows(second)})
    run = {"feature_extractor": NAME, "cuda": False, "cache": False, "save_cpu_ram": True, "batch_size": 4096, "verbose": False}
    return dict(torch_fidelity.calculate_metrics(**inputs, **run, **options))
