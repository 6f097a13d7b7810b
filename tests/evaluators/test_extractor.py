"""Names and hashes of what features come from; weights are read, never run."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as original

from auditkit.errors import UserError
from auditkit_evaluators import extractor
from auditkit_evaluators.extractor import inception, judge_extractor
from auditkit_evaluators.votes import Votes


class Runs:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def random_inception():
    """Inception v3 with random weights: torch-fidelity's class, whose loader is handed its own initial weights."""
    held = {}

    class Bare(original.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            held.update(self.state_dict())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        return Bare("inception", ["2048", "logits_unbiased"]), held


def test_a_judge_gives_its_features_and_log_probabilities(members, digits):
    judge = next(j for j in members if j.name == "cnn-a")
    mine = judge_extractor(judge)
    assert mine.name == "judge cnn-a features"
    assert mine.sha == judge.sha
    features, logits = mine.function(digits.images[:9])
    votes = judge.judge(digits.images[:9])
    np.testing.assert_array_equal(features, votes.features)
    np.testing.assert_allclose(np.exp(logits), votes.probs, rtol=1e-12)


def test_a_judge_without_features_and_float_images_are_refused(members, digits):
    bare = replace(members[0], name="bare", judge=lambda x: Votes(probs=np.full((len(x), 10), 0.1)))
    with pytest.raises(UserError, match="bare has no features"):
        judge_extractor(bare).function(digits.images[:2])
    with pytest.raises(ValueError, match="uint8"):
        judge_extractor(members[0]).function(digits.images[:2].float() / 255)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_is_torch_fidelitys_with_the_weights_of_the_file(random_inception, tmp_path, suffix):
    network, state = random_inception
    path = tmp_path / f"weights{suffix}"
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path) if suffix == ".safetensors" else torch.save(state, path)
    mine = inception(path)
    assert mine.name == "Inception v3"
    assert len(mine.sha) == 64
    grey = torch.randint(0, 256, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, logits = mine.function(grey)
    with torch.no_grad():
        wanted = dict(zip(network.features_list, network(grey.repeat(1, 3, 1, 1)), strict=True))
    assert features.shape == (2, 2048)
    np.testing.assert_allclose(features, wanted["2048"], rtol=1e-5)
    np.testing.assert_allclose(logits, wanted["logits_unbiased"], rtol=1e-4, atol=1e-6)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "weights.pth"
    for content in (Runs(ran), {"fc.weight": torch.zeros(2), "x": Runs(ran)}):
        torch.save(content, path)
        with pytest.raises(UserError, match="holds more than tensors, or is damaged; nothing in it was run"):
            inception(path)
        assert not ran.exists()
    torch.load(path, weights_only=False)  # what torch-fidelity does with the path it is given
    assert ran.exists()


def test_other_files_are_refused_in_one_line(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="does not exist"):
        inception(path)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="or is damaged"):
        inception(path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(UserError, match="holds list, wanted a dictionary of tensors"):
        inception(path)
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="does not hold the weights of torch-fidelity's Inception v3") as caught:
        inception(path)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(extractor, "MAX_WEIGHTS", 10)
    with pytest.raises(UserError, match="at most 10 are read"):
        inception(path)
    torch.save({}, tmp_path / "pickle.safetensors")
    monkeypatch.setattr(extractor, "MAX_WEIGHTS", 2**20)
    with pytest.raises(UserError, match="is a pickle, wanted safetensors"):
        inception(tmp_path / "pickle.safetensors")
