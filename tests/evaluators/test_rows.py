"""The numbers are torch-fidelity's own, its registry and cache cannot mix anything up, and FID is Frechet's closed form."""

import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from auditkit_evaluators import rows


def pair(n, m, width, shift=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1.2, size=(n, width)), rng.normal(size=(m, width))


def test_the_numbers_are_those_of_torch_fidelity_on_images(tmp_path):
    """The road it documents: uint8 images, a registered extractor, calculate_metrics."""
    mix = torch.randn(48, 10, generator=torch.Generator().manual_seed(0))

    def features(x):
        return (x.flatten(1).double() / 255) @ mix.double()

    class Extractor(torch_fidelity.FeatureExtractorBase):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)

        get_provided_features_list = staticmethod(lambda: ("mixed",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "mixed")

        def forward(self, x):
            return (features(x),)

    class Images(torch.utils.data.Dataset):
        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            return self.x[i]

    if "test-mixed" not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor("test-mixed", Extractor)
    rng = torch.Generator().manual_seed(1)
    fake, real = (torch.randint(low, 256, (120, 3, 4, 4), generator=rng, dtype=torch.uint8) for low in (60, 0))
    wanted = torch_fidelity.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        feature_extractor="test-mixed",
        cuda=False,
        save_cpu_ram=True,
        cache_root=str(tmp_path),
        fid=True,
        kid=True,
        kid_subset_size=60,
        prc=True,
        isc=True,
        isc_splits=1,
        rng_seed=3,
        verbose=False,
    )
    a, b = features(fake).numpy(), features(real).numpy()
    assert rows.fid(a, b) == pytest.approx(wanted["frechet_inception_distance"], rel=1e-9)
    # half of N: the sd of the subsets is the error of the whole
    expected = (wanted["kernel_inception_distance_mean"], wanted["kernel_inception_distance_std"])
    assert rows.kid(a, b, 3) == pytest.approx(expected, rel=1e-9)
    assert rows.precision_recall(a, b) == (wanted["precision"], wanted["recall"])
    assert rows.precision_recall(a, b) == rows.precision_recall(b, a)[::-1]
    assert rows.inception_score(a) == pytest.approx(wanted["inception_score_mean"], rel=1e-9)


def test_fid_of_gaussians_is_frechets_closed_form():
    """|mu|^2 + sum (s1 - s2)^2 for diagonal covariances; rows are whitened, so that their moments are exact."""
    rng = np.random.default_rng(2)

    def exactly(mean, sd):
        x = rng.normal(size=(400, 3))
        x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
        return x * sd + mean

    means, sds = (np.array([1.0, -2.0, 0.5]), np.zeros(3)), (np.array([1.0, 2.0, 0.5]), np.array([2.0, 0.5, 1.0]))
    wanted = np.square(means[0] - means[1]).sum() + np.square(sds[0] - sds[1]).sum()
    assert rows.fid(exactly(means[0], sds[0]), exactly(means[1], sds[1])) == pytest.approx(wanted, rel=1e-6)


def test_two_data_sets_of_one_shape_in_one_process_get_their_own_numbers(tmp_path, monkeypatch):
    """torch-fidelity's cache, asked by name, gave the first set's number again."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    near, real = pair(80, 80, 4, shift=0.1)
    far = near + 10
    first, second = rows.fid(near, real), rows.fid(far, real)
    assert second > first + 300
    assert rows.fid(near, real) == first
    assert not list(tmp_path.rglob("*"))


def test_the_standard_error_of_kid_is_that_of_repetition():
    found = [rows.kid(*pair(100, 100, 4, shift=0.5, seed=seed), 0) for seed in range(30)]
    assert np.mean([error for _, error in found]) == pytest.approx(np.std([value for value, _ in found], ddof=1), rel=0.35)


def test_inception_score_is_one_where_all_rows_agree_and_k_where_they_differ():
    assert rows.inception_score(np.tile([0.3, 2.0, -1.0], (50, 1))) == pytest.approx(1)
    assert rows.inception_score(np.log(np.maximum(np.eye(5)[np.arange(50) % 5], 1e-300))) == pytest.approx(5)
