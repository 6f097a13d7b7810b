"""CLIP judges with real weights or not at all."""

import json
import shutil
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from open_clip import get_tokenizer
from PIL import Image

from auditkit.errors import UserError
from auditkit_evaluators import clip, clip_digits

BUNDLED = clip.BUNDLED["digits"]


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "model")


def test_the_bundled_model_saw_the_judges_split_alone(digits):
    """If the split changes, the model must be made again, or it is judged by what it was trained on."""
    config = json.loads((BUNDLED / clip.CONFIG).read_text())
    assert config["auditkit"]["trained_on"] == clip_digits.trained_on(digits)
    assert config["model_cfg"] == clip_digits.MODEL
    assert (BUNDLED / clip.WEIGHTS).stat().st_size < 500_000


def test_a_local_folder_is_the_same_judge_by_another_name(folder, clip_judge, digits, noise):
    (judge,) = clip.build(digits, model=f"local-dir:{folder}")
    assert judge.fitted_on == clip.fingerprint("digits", f"local-dir:{folder}") == clip.fingerprint("digits", None)
    np.testing.assert_array_equal(judge.judge(noise).probs, clip_judge.judge(noise).probs)
    assert clip_judge.fitted_on == "digits/judges (361 images)"


def test_features_are_unit_vectors(clip_judge, noise):
    features = clip_judge.judge(noise[:7]).features
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_missing_weights_are_an_error_and_never_a_random_model(folder, digits):
    (folder / clip.WEIGHTS).unlink()
    with pytest.raises(UserError, match="does not exist"):
        clip.build(digits, model=f"local-dir:{folder}")


def test_a_pickle_is_never_opened(folder, digits):
    (folder / clip.WEIGHTS).unlink()
    torch.save({"logit_scale": torch.zeros(())}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match="does not exist"):
        clip.build(digits, model=f"local-dir:{folder}")
    (folder / "open_clip_pytorch_model.bin").rename(folder / clip.WEIGHTS)
    with pytest.raises(UserError, match="is no safetensors file"):
        clip.build(digits, model=f"local-dir:{folder}")


def test_symlinks_cut_files_and_oversized_files_are_refused(folder, digits, monkeypatch):
    whole = (folder / clip.WEIGHTS).read_bytes()
    (folder / clip.WEIGHTS).write_bytes(whole[:-4])
    with pytest.raises(UserError, match="is no safetensors file"):
        clip.build(digits, model=f"local-dir:{folder}")
    (folder / clip.WEIGHTS).unlink()
    (folder / clip.WEIGHTS).symlink_to(BUNDLED / clip.WEIGHTS)
    with pytest.raises(UserError, match="symbolic link"):
        clip.build(digits, model=f"local-dir:{folder}")
    monkeypatch.setattr(clip, "MAX_CONFIG", 10)
    with pytest.raises(UserError, match="at most 10 are read"):
        clip.build(digits, model=f"local-dir:{folder}")


def test_weights_of_another_architecture_are_refused(folder, digits):
    config = json.loads((folder / clip.CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 2
    (folder / clip.CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot load CLIP model") as caught:
        clip.build(digits, model=f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B-23:openai", "Did you mean 'ViT-B-32'"),
        ("ViT-B-32", "unknown weights of ViT-B-32 ''"),
        ("ViT-B-32:openia", "Did you mean 'openai'"),
        ("ViT-B-32:/tmp/weights.pt", "unknown weights of ViT-B-32"),
        ("local-dir:/nowhere", "is no folder"),
    ],
)
def test_unknown_models(model, message, digits):
    with pytest.raises(UserError, match=message):
        clip.build(digits, model=model)


def test_weights_that_cannot_be_fetched_and_the_activation_they_need(digits, monkeypatch):
    asked = {}

    def offline(name, **options):
        asked.update(options, name=name)
        raise RuntimeError("Failed to download\nand more")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", offline)
    with pytest.raises(UserError, match=r"cannot load CLIP model 'ViT-B-32': Failed to download\. Without a network"):
        clip.build(digits, model="ViT-B-32:openai")
    assert asked == {"name": "ViT-B-32", "pretrained": "openai", "force_quick_gelu": True}


def test_other_data_needs_a_model(digits):
    with pytest.raises(UserError, match="no CLIP model is bundled for cifar10"):
        clip.build(replace(digits, name="cifar10"))


@pytest.mark.fast
def test_the_full_vocabulary_is_open_clips_own_tokenizer():
    texts = ["a photo of a seven", "Handwritten, 8 x 8!"]
    assert torch.equal(clip.small_tokenizer(49408, 77)(texts), get_tokenizer("ViT-B-32")(texts))


def test_no_caption_is_cut_and_no_two_classes_share_one(digits):
    tokenizer = clip.small_tokenizer(1026, 16)
    tokens = torch.cat([tokenizer([prompt.format(name) for name in digits.classes]) for prompt in clip.PROMPTS["digits"]])
    assert int(tokens.max()) == 1025
    assert bool((tokens == 1025).sum(dim=1).eq(1).all())
    assert len({tuple(row.tolist()) for row in tokens}) == len(tokens)
    assert (
        tokenizer(["a small grey image of a seven"])[0].tolist()
        == clip.small_tokenizer(1026, 40)(["a small grey image of a seven"])[0, :16].tolist()
    )


@pytest.mark.fast
def test_preprocessing_is_that_of_pil(monkeypatch, digits):
    """A model of 8 pixels shown a 16-pixel image: our tensor path against open_clip's own, on a PIL image."""
    seen = []
    network, preprocess, tokenizer = clip.load(f"local-dir:{BUNDLED}")
    encode = network.encode_image
    monkeypatch.setattr(network, "encode_image", lambda x, normalize: seen.append(x.clone()) or encode(x, normalize=normalize))
    monkeypatch.setattr(clip, "load", lambda name: (network, preprocess, tokenizer))
    (judge,) = clip.build(digits)
    image = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    judge.judge(image)
    wanted = preprocess(Image.fromarray(image[0].permute(1, 2, 0).numpy()))
    assert (seen[-1][0] - wanted).abs().max() < 2.1 / 127.5  # two grey levels


def test_two_channels_are_refused(clip_judge):
    with pytest.raises(ValueError, match="found 2"):
        clip_judge.judge(torch.zeros(1, 2, 8, 8, dtype=torch.uint8))
