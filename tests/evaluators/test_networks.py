"""Which kind of network a file holds is told by its tensors."""

import pytest
import torch
from safetensors.torch import save_file

from auditkit.errors import UserError
from auditkit_evaluators import ensemble, networks, paper_judge, resnet


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder with a CIFAR ResNet and a ResNet-34, both of random weights for three classes."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_file(resnet.ResNet(1, 3).state_dict(), folder / "a small one.safetensors")
    save_file(paper_judge.PaperJudge(3).state_dict(), folder / "paper.safetensors")
    return folder


def test_both_kinds_of_a_folder_are_found_by_name(both, colour):
    found = networks.load_all(both, colour)
    assert [name for name, *_ in found] == ["a-small-one", "paper"]
    for (_, scores, sha), width in zip(found, (64, 512), strict=True):
        logits, features = scores(colour.images[:2])
        assert (logits.shape, features.shape, str(logits.dtype)) == ((2, 3), (2, width), "float64")
        assert len(sha) == 64


def test_a_network_joins_the_ensemble_in_one_family(both, colour):
    [judge] = ensemble.build(colour, weights=both / "a small one.safetensors", only=())
    assert (judge.name, judge.family, judge.space) == ("a-small-one", "residual", "a-small-one")


def test_grey_images_are_for_the_papers_judge_alone(both, colour, digits):
    with pytest.raises(UserError, match=r"a small one\.safetensors is a network for colour images, digits has 1 channel"):
        networks.load_all(both / "a small one.safetensors", digits)
    with pytest.raises(UserError, match=r"has a last layer of \(3, 512\), wanted fc\.weight \(10, 512\)"):
        networks.load_all(both / "paper.safetensors", digits)


def test_what_is_neither_is_refused(tmp_path, colour):
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        networks.load_all(tmp_path, colour)
    with pytest.raises(UserError, match="does not exist: weights must be a safetensors file"):
        networks.load_all(tmp_path / "x.safetensors", colour)
    save_file({"head.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"neither a CIFAR ResNet .* it has tensors head\.weight"):
        networks.load_all(tmp_path, colour)
    save_file({"fc.weight": torch.zeros(3), "linear.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="is neither a CIFAR ResNet"):
        networks.load_all(tmp_path, colour)
    header = b'{"x":{"dtype":"F32","shape":[7],"data_offsets":[0,4]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="no safetensors file that can be read"):
        networks.load_all(tmp_path, colour)
