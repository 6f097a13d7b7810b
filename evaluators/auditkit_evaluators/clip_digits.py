"""Makes the bundled CLIP model for digits: `python -m auditkit_evaluators.clip_digits OUT_DIR` (10 s on one thread).

A real open_clip.CLIP (image tower: 8 x 8 pixels, 4 patches, one layer of width 64; text tower: one layer of width 32 over a
BPE vocabulary of 1,026), trained on the `judges` split alone. The loss is cross-entropy against the K encoded captions:
CLIP's own loss takes equal captions in a batch for negatives, and with ten classes a batch of 128 is full of those.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save

from auditkit.data import Dataset, load
from auditkit_evaluators import clip
from auditkit_evaluators.augment import shifted
from auditkit_evaluators.examine import HISTOGRAM, read
from auditkit_evaluators.matched import matched
from auditkit_evaluators.stats import rate

MODEL: dict[str, Any] = {
    "embed_dim": 32,
    # Four patches of 4 x 4 and their average: 16 patches or a class token cost 3-10 points on the calibration digits.
    "vision_cfg": {"image_size": 8, "patch_size": 4, "width": 64, "layers": 1, "head_width": 16, "pool_type": "avg"},
    "text_cfg": {"context_length": 16, "vocab_size": 1026, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
STEPS, BATCH, LR, WEIGHT_DECAY, SEED = 1000, 128, 2e-3, 0.05, 0


def train(data: Dataset, *, steps: int = STEPS, seed: int = SEED) -> Any:
    """A trained open_clip.CLIP in evaluation mode; the same arguments give the same weights on the same machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**MODEL)
    rng = torch.Generator().manual_seed(seed)
    tokenizer = clip.small_tokenizer(MODEL["text_cfg"]["vocab_size"], MODEL["text_cfg"]["context_length"])
    captions = [tokenizer([prompt.format(name) for name in data.classes]) for prompt in clip.PROMPTS["digits"]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)
    images, labels = data.part("judges")
    x = clip.three_channels(images.float() / 127.5 - 1)
    for step in range(steps):
        rows = torch.randint(len(x), (BATCH,), generator=rng)
        seen = model.encode_image(shifted(x[rows] + 1, rng) - 1, normalize=True)  # + 1: what moves in is black, not grey
        text = model.encode_text(captions[step % len(captions)], normalize=True)
        loss = F.cross_entropy(model.logit_scale.exp() * seen @ text.T, labels[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return model.eval()


def trained_on(data: Dataset) -> str:
    """SHA-256 of the images and labels that the model was trained on; another split would leak what it is judged by."""
    images, labels = data.part("judges")
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def write(model: Any, data: Dataset, out: Path) -> None:
    """The folder that `local-dir:` reads: config, safetensors, and a card that is measured as it is written."""
    out.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS, "auditkit": {"trained_on": trained_on(data)}}
    (out / clip.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    # Not save_file(): its files are readable by their owner alone.
    (out / clip.WEIGHTS).write_bytes(save({k: v.detach().contiguous() for k, v in model.state_dict().items()}))
    (out / "README.md").write_text(_card(model, data, out))


def _card(model: Any, data: Dataset, out: Path) -> str:
    (judge,) = clip.build(data, model=f"local-dir:{out}")
    rng = torch.Generator().manual_seed(SEED)
    normal = torch.randn(1000, 1, 8, 8, generator=rng).clamp(-1, 1)
    noise = {
        HISTOGRAM: matched(data.part("heldout")[0], 1000, SEED),
        "N(0, 1), clamped": ((normal + 1) * 127.5).round().to(torch.uint8),
        "sign noise (0 or 255)": (normal > 0).to(torch.uint8) * 255,
    }
    readings = {form: read(judge, x, 0, form, data.classes) for form, x in noise.items()}
    images, labels = data.part("heldout")
    real = rate("real", int((judge.judge(images).said == labels.numpy()).sum()), len(labels))
    rows = "\n".join(
        f"| {'held-out digits, pixels mixed' if form == HISTOGRAM else form} | {data.classes[r.votes.index(max(r.votes))]} "
        f"| {max(r.votes) / r.n:.0%} | {r.entropy.text(2)} |"
        for form, r in readings.items()
    )
    return CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        size=(out / clip.WEIGHTS).stat().st_size / 1e6,
        n_train=len(data.part("judges")[0]),
        prompts=len(clip.PROMPTS["digits"]),
        n=real.n,
        real=real.text(1),
        temperature=judge.temperature,
        rows=rows,
        steps=STEPS,
        digest=hashlib.sha256((out / clip.WEIGHTS).read_bytes()).hexdigest(),
    )


CARD = """# clip-digits

A small open_clip model ({parameters:,} parameters, {size:.2f} MB) that reads scanned digits of 8 x 8 pixels by their captions.
It is auditkit's judge `clip` for the digits data, and nothing else.

- **Made by** `python -m auditkit_evaluators.clip_digits OUT_DIR`: {steps} steps of 128, AdamW, one-cycle, one thread, seed 0.
- **Trained on** the `judges` split alone ({n_train} images of scikit-learn's digits) with {prompts} captions per class. Architecture
  and steps were chosen on the `calibration` split.
- **Real held-out digits** (n = {n}, used for neither): {real} right, 95 % Clopper-Pearson interval.
- **Temperature** {temperature:.2f} on top of its own logit scale, from the `calibration` split.
- **Noise** it calls a digit all the same (1,000 images each); asked without the answer "no class":

| noise | its commonest answer | share | H, nats [95 %] |
|---|---|---|---|
{rows}

So its word on an unlearned model counts only against its word on matched noise. Licence: MIT, as auditkit; the data are the UCI
"Optical Recognition of Handwritten Digits" (CC BY 4.0). Weights: SHA-256 {digest}.
"""

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m auditkit_evaluators.clip_digits OUT_DIR")
    digits = load("digits")
    write(train(digits), digits, Path(sys.argv[1]))
