"""CLIP as a judge: zero-shot, softmax(logit_scale * cosine(image, captions of each class)), one temperature on top.

It answers "no class" where its image features are strange (openset.py), or where a caption of noise fits better than any class's.
Untrained noise captions catch little (9 % of noise, judges.md); they are dropped where they win on more than 5 % of real images.

Any open_clip model will do; for digits a small one is bundled (auditkit/zoo/clip-digits, made by clip_digits.py), so that
the judge works without a network. Weights that are missing are an error: open_clip's own create_model() would go on with
random ones and a log line.
"""

import gzip
import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import default_bpe
from safetensors import SafetensorError, safe_open
from torch import Tensor

import auditkit
from auditkit.data import Dataset
from auditkit.errors import UserError, choose
from auditkit.files import sha256_of
from auditkit_evaluators import openset, temperature
from auditkit_evaluators.votes import Floats, Judge, Votes, check_images

Tokenizer = Callable[[Sequence[str]], Tensor]

BUNDLED = {"digits": Path(auditkit.__file__).parent / "zoo" / "clip-digits"}
WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
MAX_WEIGHTS = 16 * 2**30  # bytes; open_clip's largest model is 10 GB in float32
MAX_CONFIG = 2**20

PROMPTS = {
    "digits": (
        "{}",
        "the digit {}",
        "a photo of the number {}",
        "a handwritten {}",
        "a small grey image of a {}",
        "a scan of the digit {}",
    ),
}
GENERAL = ("a photo of a {}.", "a photo of the {}.", "a blurry photo of a {}.", "a low resolution photo of a {}.", "a picture of one {}.")

NOISE = ("random noise", "a photo of static noise", "an image of television static", "a picture of nothing but noise")

CHUNK = 256  # images judged at once


def build(data: Dataset, *, model: str | None = None, seed: int = 0) -> tuple[Judge, ...]:
    """One judge, "clip". `model` is "ARCH:TAG" (ViT-B-32:openai), "local-dir:PATH" or "hf-hub:ORG/NAME"; default: the bundled one.

    Nothing is drawn at random, so `seed` changes nothing. `local-dir` reads safetensors alone.

    Raises:
        UserError: no model is bundled for this data, the model is unknown, or its weights are missing or no safetensors.
    """
    fingerprint(data.name, model)
    name = model or f"local-dir:{BUNDLED[data.name]}"
    network, preprocess, tokenizer = load(name)
    *geometry, normalise = preprocess.transforms
    prompts = PROMPTS.get(data.name, GENERAL)
    captions = open_clip.build_zero_shot_classifier(network, tokenizer, data.classes, prompts).detach()  # (D, K)
    noise = open_clip.build_zero_shot_classifier(network, tokenizer, ("noise",), [*NOISE]).detach()  # (D, 1)
    scale = float(network.logit_scale.detach().exp())

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        features = []
        for chunk in torch.split(images, CHUNK):
            x = three_channels(chunk)
            for step in geometry:  # in uint8, as PIL would: bicubic overshoot is clamped
                x = step(x)
            features.append(network.encode_image(normalise(x.float() / 255), normalize=True))
        return torch.cat(features)

    def cosines(features: Tensor, to: Tensor) -> Floats:
        return np.asarray((features @ to).double().numpy())

    (images, labels), (held, truth) = data.part("judges"), data.part("calibration")
    known = encode(check_images(held))
    t = temperature.fit(scale * cosines(known, captions), truth.numpy())
    strange = openset.fit(encode(check_images(images)).double().numpy(), labels.numpy(), known.double().numpy())
    useful = float((cosines(known, noise)[:, 0] > cosines(known, captions).max(axis=1)).mean()) <= openset.REFUSED

    def judge(images: Tensor) -> Votes:
        images = check_images(images)
        if len(images) == 0:
            return Votes(probs=np.zeros((0, len(data.classes))), abstain=np.zeros(0, dtype=np.bool_) if strange or useful else None)
        features = encode(images)
        similarity = cosines(features, captions)
        refused = np.zeros(len(images), dtype=np.bool_)
        if strange:
            refused |= strange.abstain(features.double().numpy())
        if useful:
            refused |= cosines(features, noise)[:, 0] > similarity.max(axis=1)
        return Votes(
            probs=temperature.probabilities(scale * similarity, t),
            abstain=refused if strange or useful else None,
            features=features.double().numpy(),
            similarity=similarity,
        )

    print_of = fingerprint(data.name, model)
    fitted_on = print_of if model else f"{data.name}/judges ({len(images)} images)"
    sha = hashlib.sha256(f"{print_of} {prompts} {NOISE} {useful}".encode()).hexdigest()
    return (Judge(name="clip", family="contrastive", judge=judge, temperature=t, fitted_on=fitted_on, sha=sha, space="clip"),)


def fingerprint(data_name: str, model: str | None) -> str:
    """What identifies the model to a result: the hash of a folder's files, wherever it lies, or the name of a published one.

    Raises:
        UserError: see build.
    """
    if model is None and data_name not in BUNDLED:
        how = "give --clip-model ARCH:TAG (ViT-B-32:openai) or local-dir:PATH, or ask the others: --judges ensemble"
        raise UserError(f"no CLIP model is bundled for {data_name}: {how}")
    if model is not None and not model.startswith("local-dir:"):
        return model
    folder = BUNDLED[data_name] if model is None else Path(model.removeprefix("local-dir:"))
    check_folder(folder)
    return f"folder {sha256_of([folder / CONFIG, folder / WEIGHTS])[:12]}"


def load(name: str) -> tuple[Any, Any, Tokenizer]:
    """The open_clip model called `name` in evaluation mode, its own preprocessing (torchvision Compose) and its tokenizer.

    Raises:
        UserError: see build.
    """
    options: dict[str, Any] = {}
    if name.startswith("local-dir:"):
        check_folder(Path(name.removeprefix("local-dir:")))
    elif not name.startswith("hf-hub:"):
        arch, _, tag = name.partition(":")
        choose("CLIP architecture", arch, open_clip.list_models())
        # Never a file: open_clip would take a path here and give it the wrong preprocessing (open_clip issue #1068).
        choose(f"weights of {arch}", tag, open_clip.list_pretrained_tags_by_model(arch))
        # open_clip warns and goes on with another activation than the weights were trained with.
        options = {"pretrained": tag, "force_quick_gelu": bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu"))}
        name = arch
    try:
        network, preprocess = open_clip.create_model_from_pretrained(name, **options)
        cfg = getattr(network, "text", network)
        tokenizer = small_tokenizer(cfg.vocab_size, cfg.context_length) if name.startswith("local-dir:") else open_clip.get_tokenizer(name)
    except Exception as error:  # open_clip raises a dozen kinds, all of which mean the same to the caller
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load CLIP model {name!r}: {said}. Without a network give local-dir:PATH") from error
    return network.eval(), preprocess, tokenizer


def check_folder(folder: Path) -> None:
    """Raises UserError unless `folder` holds a config and safetensors weights, as regular files of a plausible size."""
    if not folder.is_dir():
        raise UserError(f"local-dir:{folder} is no folder: give one with {CONFIG} and {WEIGHTS}")
    for file, limit in ((folder / CONFIG, MAX_CONFIG), (folder / WEIGHTS, MAX_WEIGHTS)):
        if file.is_symlink():
            raise UserError(f"{file} is a symbolic link; give the file itself")
        if not file.is_file():
            raise UserError(f"{file} does not exist: a CLIP folder needs {CONFIG} and {WEIGHTS} (pickles are never opened)")
        if file.stat().st_size > limit:
            raise UserError(f"{file} has {file.stat().st_size} bytes, at most {limit} are read")
    try:
        safe_open(folder / WEIGHTS, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} is no safetensors file: {error}") from error


@cache
def small_tokenizer(vocabulary: int, context: int) -> Tokenizer:
    """open_clip's own BPE tokenizer with its first `vocabulary` - 514 merges (all 48,894 of them: 49,408), offline.

    The end token keeps the largest id, which CLIP's text pooling looks for.
    """
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    if not 514 <= vocabulary <= 49408:
        raise UserError(f"the CLIP model has a vocabulary of {vocabulary}; local-dir takes 514 to 49408 (open_clip's BPE)")
    merges = gzip.compress("\n".join(lines[: vocabulary - 514 + 1]).encode(), mtime=0)
    tokenizer: Tokenizer = open_clip.SimpleTokenizer(bpe_path=io.BytesIO(merges), context_length=context)
    return tokenizer


def three_channels(images: Tensor) -> Tensor:
    """Grey (B, 1, H, W) repeated to (B, 3, H, W); colour as it is. Raises ValueError for another number of channels."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"expected 1 or 3 channels, found {images.shape[1]}")
    return images.expand(-1, 3, -1, -1)
