import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from auditkit import data, models
from auditkit.stages import source
from auditkit_evaluators import cards, clip, ensemble, reference

KEPT = {}


@pytest.fixture(autouse=True)
def judges_are_made_once(monkeypatch):
    """Judges, their cards and the noise test's reference take seconds and depend on their arguments alone; tests of evaluators make
    them anew, and every test here has its own folder of runs."""

    def once(module, name, key):
        function = getattr(module, name)

        def remembered(*arguments, **options):
            known = (name, key(*arguments, **options))
            if None in known:
                return function(*arguments, **options)
            if known not in KEPT:
                KEPT[known] = function(*arguments, **options)
            return KEPT[known]

        monkeypatch.setattr(module, name, remembered)

    def members(data, *, seed=0, weights=None, only=None):
        return None if weights is not None else (data.sha256, seed, None if only is None else tuple(only))

    once(cards, "measure", lambda judge, data, *, seed=0: (cards.key(judge, data), seed))
    once(ensemble, "build", members)
    once(clip, "build", lambda data, *, model=None, seed=0: None if model else (data.sha256, seed, "clip"))
    once(reference, "fit", lambda real, *, seed=0: (tuple(real.shape), real.sum().item(), seed, "reference"))


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def base():
    """The bundled digits denoiser; tests that train work on copies."""
    return source.bundled("digits").load()


@pytest.fixture
def tiny():
    """A random denoiser small enough to train in a test."""
    return models.build((1, 8, 8), 10, seed=3, architecture={**models.DIGITS, "block_out_channels": (8,), "norm_num_groups": 2})


@pytest.fixture
def pack():
    """Writes a plain pack of noisy plain colours, one for each class, its rows in `order`; returns its images and labels."""

    def make(path, classes=3, each=80, shape=(3, 16, 16), named=True, order=None):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(classes), each)
        colours = rng.integers(40, 216, (classes, shape[0], 1, 1))
        images = (colours[labels] + rng.normal(0, 30, (len(labels), *shape))).clip(0, 255).astype(np.uint8)
        names = {"classes": np.array([f"colour-{k}" for k in range(classes)])} if named else {}
        order = np.arange(len(labels)) if order is None else order
        np.savez(path, images=images[order], labels=labels[order], **names)
        return images, labels

    return make


@pytest.fixture
def make_pipeline(tmp_path):
    """A folder that diffusers' own classes wrote: a DiT and a VAE with few random weights, images 3 x 16 x 16, latents 4 x 8 x 8."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel

    def make(classes=3, name="pipeline", vae=None, names=None, **options):
        small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "norm_num_groups": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            net = DiTTransformer2DModel(**{**small, "in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": classes, **options})
            blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
            coder = AutoencoderKL(**{**blocks, "block_out_channels": (8, 8), "norm_num_groups": 4, **(vae or {})})
        parts = {"transformer": net, "vae": coder, "scheduler": DDIMScheduler(clip_sample=False)}
        for part, module in parts.items():
            module.save_pretrained(tmp_path / name / part)
        index = {part: ["diffusers", type(module).__name__] for part, module in parts.items()}
        index |= {"_class_name": "DiTPipeline", **({"id2label": names} if names else {})}
        (tmp_path / name / "model_index.json").write_text(json.dumps(index))
        return tmp_path / name

    return make


@pytest.fixture
def change_json():
    """Changes values in a JSON file; None removes one."""

    def change(path, **changes):
        config = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


class _Block(nn.Module):
    def __init__(self, inner, out, ch):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(32, width, eps=1e-6) for width in (inner, out))
        self.conv1, self.conv2 = nn.Conv2d(inner, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.temb_cemb_proj = nn.Linear(8 * ch, out)
        if inner != out:
            self.nin_shortcut = nn.Conv2d(inner, out, 1)

    def forward(self, x, both):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_cemb_proj(F.silu(both))[..., None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class _Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))
        share = torch.einsum("bcq,bck->bqk", q, k).div(math.sqrt(x.shape[1])).softmax(dim=2)
        return x + self.proj_out(torch.einsum("bqk,bck->bcq", share, v).view_as(x))


class _Resample(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(width, width, 3, stride=stride, padding=0 if stride == 2 else 1)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else F.interpolate(x, scale_factor=2, mode="nearest"))


class Peer(nn.Module):
    """The network of Selective Amnesia and SalUn, written anew from its description and with its names, for any `ch`: the oracle."""

    def __init__(self, ch=32, mult=(1, 2, 2), *, attention=(1,), blocks=1, classes=10, channels=3):
        super().__init__()
        self.ch, widths = ch, [ch * m for m in mult]
        self.temb, self.cemb = nn.Module(), nn.Module()
        for part in (self.temb, self.cemb):
            part.dense = nn.ModuleList([nn.Linear(ch, 4 * ch), nn.Linear(4 * ch, 4 * ch)])
        self.classes_emb, self.null_classes_emb = nn.Embedding(classes, ch), nn.Parameter(torch.randn(ch))
        self.conv_in = nn.Conv2d(channels, ch, 3, padding=1)
        kept, now = [ch], ch  # the width of everything that the way up will read
        self.down, self.up, self.mid = nn.ModuleList(), nn.ModuleList(), nn.Module()

        def level(inputs, width, has):
            made = nn.Module()
            made.block = nn.ModuleList(_Block(inner, width, ch) for inner in inputs)
            made.attn = nn.ModuleList(_Attention(width) for _ in inputs) if has else nn.ModuleList()
            return made

        for i, width in enumerate(widths):
            self.down.append(level([now] + [width] * (blocks - 1), width, i in attention))
            now = width
            kept += [width] * blocks
            if i < len(widths) - 1:
                self.down[i].downsample = _Resample(width, 2)
                kept.append(width)
        self.mid.block_1, self.mid.attn_1, self.mid.block_2 = _Block(now, now, ch), _Attention(now), _Block(now, now, ch)
        for i in reversed(range(len(widths))):
            inputs = [(now if j == 0 else widths[i]) + kept.pop() for j in range(blocks + 1)]
            self.up.insert(0, level(inputs, widths[i], i in attention))
            now = widths[i]
            if i:
                self.up[0].upsample = _Resample(now, 1)
        self.norm_out, self.conv_out = nn.GroupNorm(32, ch, eps=1e-6), nn.Conv2d(ch, channels, 3, padding=1)

    def forward(self, x, t, labels):
        """eps (B, C, H, W); a label of -1 is the null class. `t` (B,) in 0..999."""
        half = self.ch // 2
        angle = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        rows = torch.where(labels[:, None] < 0, self.null_classes_emb, self.classes_emb(labels.clamp_min(0)))
        inputs = (torch.cat([angle.sin(), angle.cos()], 1).to(rows), rows)
        both = torch.cat([p.dense[1](F.silu(p.dense[0](i))) for p, i in zip((self.temb, self.cemb), inputs, strict=True)], 1)
        kept = [self.conv_in(x)]
        for level in self.down:
            for j, block in enumerate(level.block):
                h = block(kept[-1], both)
                kept.append(level.attn[j](h) if len(level.attn) else h)
            if hasattr(level, "downsample"):
                kept.append(level.downsample(kept[-1]))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(kept[-1], both)), both)
        for level in reversed(self.up):
            for j, block in enumerate(level.block):
                h = block(torch.cat([h, kept.pop()], 1), both)
                h = level.attn[j](h) if len(level.attn) else h
            h = level.upsample(h) if hasattr(level, "upsample") else h
        return self.conv_out(F.silu(self.norm_out(h)))


@pytest.fixture
def make_peer():
    """Peer(...) with random weights of this seed; norms and biases are moved, so that none is the identity."""

    def make(seed=0, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Peer(**options)
            for p in net.parameters():
                p.data += 0.05 * torch.randn_like(p)
        return net.eval()

    return make


@pytest.fixture
def save_peer(tmp_path):
    """Writes a checkpoint as the peers do: a list of 3, or of 4 with the average `ema`."""

    def save(net, ema=None, step=999, name="ckpt.pth", **changes):
        weights = {f"module.{k}": t for k, t in {**net.state_dict(), **changes}.items() if t is not None}
        optimizer = torch.optim.Adam(net.parameters()).state_dict()
        torch.save([weights, optimizer, step, *([dict(ema.state_dict())] if ema is not None else [])], tmp_path / name)
        return tmp_path / name

    return save
