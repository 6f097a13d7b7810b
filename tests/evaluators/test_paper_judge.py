"""The publications' judge: torchvision's network and names, its preprocessing by hand, its recipe, and where its weights come from."""

from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

from auditkit.errors import UserError
from auditkit_evaluators import paper_judge

IMAGES = torch.randint(0, 256, (2, 3, 9, 12), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """torchvision's own ResNet-34 with random weights and a thousand classes, as safetensors and as torch.save writes it."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = torchvision.models.resnet34(weights=None).eval()
    save_file(network.state_dict(), folder / "resnet34.safetensors")
    torch.save(network.state_dict(), folder / "resnet34.pth")
    return network, folder / "resnet34.safetensors", folder / "resnet34.pth"


def test_scores_are_torchvisions_on_images_resized_as_pillow_does(imagenet):
    """Pillow rounds to 8 bits after each of its two passes, we do not: half a level of 255 per pass and pixel."""
    network, file, _ = imagenet
    judge = paper_judge.load(file, 1000)
    resized = [Image.fromarray(i.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BILINEAR) for i in IMAGES]
    x = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        wanted = network((x - 0.5) / 0.5).numpy()
    logits, features = paper_judge.scores_of(judge)(IMAGES)
    assert (logits.shape, features.shape) == ((2, 1000), (2, 512))
    assert np.abs(logits - wanted).max() < 0.02 * wanted.std()
    last = judge.fc.weight.detach().double().numpy()
    np.testing.assert_allclose(features @ last.T + judge.fc.bias.detach().numpy(), logits, atol=1e-4)
    again = paper_judge.scores_of(judge)(IMAGES[:1])[0]
    np.testing.assert_allclose(again, logits[:1], atol=1e-4)


def test_grey_images_become_three_equal_channels(imagenet):
    scores = paper_judge.scores_of(paper_judge.load(imagenet[1], 1000))
    grey = IMAGES[:1, :1]
    np.testing.assert_array_equal(scores(grey)[0], scores(grey.expand(-1, 3, -1, -1))[0])


def test_it_starts_with_the_given_body_and_a_new_last_layer(imagenet):
    network, file, pickle = imagenet
    before = torch.get_rng_state()
    first, second, other = paper_judge.start(file, 3, 1), paper_judge.start(pickle, 3, 1), paper_judge.start(file, 3, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.layer4[2].conv2.weight, network.layer4[2].conv2.weight)
    assert first.fc.weight.shape == (3, 512)
    assert first.fc.weight.abs().max().item() == pytest.approx((6 / 515) ** 0.5, rel=0.01), "Xavier, uniform"
    assert all(torch.equal(a, second.state_dict()[name]) for name, a in first.state_dict().items())
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_no_network_says_where_the_file_is_and_which_option_takes_it(monkeypatch):
    def offline(*_, **options):
        assert options["weights_only"]
        assert options["check_hash"]
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"no route to host.*: fetch https://download\S+resnet34-b627a593\.pth .* --start FILE"):
        paper_judge.start(None, 3)


def test_files_that_are_no_resnet34_are_refused(tmp_path, imagenet):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors does not fit torchvision's ResNet-34: Missing key"):
        paper_judge.start(tmp_path / "a.safetensors", 3)
    torch.save({"conv1.weight": print}, tmp_path / "b.pth")
    with pytest.raises(UserError, match="more than tensors, or is damaged; nothing in it was run"):
        paper_judge.start(tmp_path / "b.pth", 3)
    torch.save([1], tmp_path / "c.pth")
    with pytest.raises(UserError, match="holds list, wanted a dictionary of tensors"):
        paper_judge.start(tmp_path / "c.pth", 3)
    with pytest.raises(UserError, match="does not exist"):
        paper_judge.start(tmp_path / "d.pth", 3)
    with pytest.raises(UserError, match=r"last layer of \(1000, 512\), wanted fc\.weight \(3, 512\)"):
        paper_judge.load(imagenet[1], 3)
    wrong = {**load_file(imagenet[1]), "fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(4)}
    save_file(wrong, tmp_path / "e.safetensors")
    with pytest.raises(UserError, match=r"size mismatch for fc\.bias"):
        paper_judge.load(tmp_path / "e.safetensors", 3)


def test_fine_tuning_moves_the_last_layer_ten_times_as_fast(imagenet, colour):
    """Adam's first step is lr in every weight with a gradient, whatever its size."""
    few = replace(colour, images=colour.images[:3], labels=colour.labels[:3], split=np.array(["judges"] * 3))
    network = paper_judge.start(imagenet[1], 3, 1)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    reported: list[int] = []
    paper_judge.train(few, network, steps=1, report=reported.append)
    moved = {name: (network.state_dict()[name] - before[name]).abs().median().item() for name in ("fc.weight", "layer3.0.conv1.weight")}
    assert moved["fc.weight"] == pytest.approx(1e-4, rel=0.02)
    assert moved["layer3.0.conv1.weight"] == pytest.approx(1e-5, rel=0.02)
    assert reported == [1]
    assert not network.training


def test_ten_epochs(colour, monkeypatch):
    seen = {}

    def fit(network, batches, optimizer, report):
        seen.update(steps=len(list(batches)), groups=[(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups])
        seen["kind"] = type(optimizer).__name__

    monkeypatch.setattr(paper_judge, "fit", fit)
    paper_judge.train(replace(colour, split=np.array(["judges"] * 180)), paper_judge.PaperJudge(3))
    assert seen["steps"] == round(10 * 180 / 128)
    assert seen["kind"] == "Adam"
    assert seen["groups"] == [(1e-5, 5e-4, 108), (1e-4, 5e-4, 2)]
