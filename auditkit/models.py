"""Denoisers: a diffusers `UNet2DModel` with one more class row than classes, the peers' (peers.py) or a DiT (dit.py); the last row is the
null class. A DiT may work in latents: then a codec (latent.py) stands between its x_0 and the images.

A model folder is diffusers' own: `config.json` and `diffusion_pytorch_model.safetensors` (stored.py), or in latents those of a pipeline
(pipeline.py); and optionally `gate.json`. A folder is foreign until it is read: only safetensors, sizes capped, symlinks refused, nothing
is unpickled.
"""

import copy
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from auditkit import data, dit, files, latent, peers, pipeline, schedule, stored
from auditkit.diffusion import T
from auditkit.errors import UserError
from auditkit.unet import UNet

MAX_SIDE = 4096  # pixels
# How a UNet2DModel is told class and time: the values that are called rightly here, the first one diffusers' default; what others mean.
TOLD: dict[str, tuple[tuple[Any, ...], str]] = {
    "class_embed_type": ((None,), "its class is no row of a table, and auditkit asks for rows"),
    "time_embedding_type": (("positional", "learned"), "it is told a noise level and no timestep"),
}
NETWORKS = {"UNet2DModel": UNet, "ConcatUNet2DModel": peers.ConcatUNet2DModel, "DiTTransformer2DModel": dit.DiT, dit.OLD_NAME: dit.DiT}
WEIGHTS, CONFIG, GATE = stored.WEIGHTS, stored.CONFIG, "gate.json"
CONFIGS = (CONFIG, f"{pipeline.NETWORK}/{CONFIG}")  # where a model folder has that of its network: of pixels, in latents

# The smallest of the four trained that kept the other classes on digits (docs/decisions/0003-digits-model.md): two levels of 16 channels,
# 68,337 parameters. Four norm groups: with as many groups as channels GroupNorm erases the class signal (instance norm).
DIGITS = {"block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 4, "add_attention": False}

# For photographs on a CPU: 2,737,507 parameters at 3 x 32 x 32 and ten classes, 24 ms an image forward and backward on a shared core
# (without the attention at the lowest level 20 ms, with twice its first width 38 ms). Two halvings, so that 28 x 28 will do as well.
SMALL = {
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": None,
    "norm_num_groups": 8,
}

ARCHITECTURES = {"digits": DIGITS, "small": SMALL, "cifar10": peers.CIFAR10, "stl10": peers.STL10}
LARGEST_OF_DIGITS = 16  # pixels a side up to which the architecture of digits is the default


def fitting(shape: tuple[int, int, int]) -> str:
    """The name of the architecture for images (C, H, W) where none is asked for: "digits" up to 16 x 16, else "small"."""
    return "digits" if max(shape[1:]) <= LARGEST_OF_DIGITS else "small"


@dataclass(frozen=True)
class Model:
    """A denoiser in memory: its network, if it is gated the classes for which a query gets noise, if it works in latents its codec, and
    what its folder calls its classes, by label."""

    net: UNet2DModel
    gate: tuple[int, ...] = ()
    codec: latent.Codec | None = None
    names: dict[int, str] = field(default_factory=dict, hash=False)

    @property
    def null(self) -> int:
        """The null class: the last row of the class table."""
        return int(self.net.config["num_embeds_ada_norm"] if isinstance(self.net, dit.DiT) else self.net.config["num_class_embeds"] - 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network sees: an image, or its latents."""
        size = self.net.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.net.config["in_channels"]), int(height), int(width)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.codec.image_shape(self.shape) if self.codec else self.shape

    def encode(self, images: Tensor) -> Tensor:
        """x_0 float32 (N, *shape) that the network is trained on, for images uint8 (N, *image_shape)."""
        return self.codec.encode(images, self.net.device) if self.codec else data.to_model(images)

    def decode(self, x_0: Tensor) -> Tensor:
        """Images uint8 (N, *image_shape) for x_0 (N, *shape); NaN is refused."""
        return data.to_uint8(self.codec.decode(x_0, self.net.device) if self.codec else x_0)

    @property
    def class_table(self) -> Tensor:
        """The rows that the labels look up, (classes + 1, D): the live weights, without their gradient. Raises UserError if there is
        none, or one in every block."""
        if len(self.class_tables) > 1:
            raise UserError(f"this model has {len(self.class_tables)} class tables, one in every block, and no row that stands for a class")
        return self.class_tables[0]

    @property
    def class_tables(self) -> list[Tensor]:
        """Every table that the labels look up: one, or for a DiT one in every block. Raises UserError if there is none."""
        if isinstance(self.net, dit.DiT):
            return [table.weight.data for table in self.net.tables]
        table = getattr(self.net.class_embedding, "weight", None)
        if not isinstance(table, Tensor) or table.shape[0] != self.null + 1:
            raise UserError("this model has no class table that can be read: its class embedding is no lookup")
        return [table.data]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def copy(self) -> "Model":
        """The same network with weights of its own; a network that is more than its weights (a planted leak) keeps what it is."""
        return replace(self, net=copy.deepcopy(self.net).eval())


def build(shape: tuple[int, int, int], classes: int, *, seed: int, architecture: dict[str, Any] | None = None) -> Model:
    """A denoiser with random weights for images (C, H, W) and `classes` classes; the same seed gives the same bytes.

    `architecture` holds the options of a `UNet2DModel`, or with `_class_name` of another of ours (peers.CIFAR10).
    """
    options = dict(architecture or DIGITS)
    channels, height, width = shape
    kind = NETWORKS[options.pop("_class_name", "UNet2DModel")]
    levels = len(options["block_out_channels"])
    if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
        raise UserError(f"images of {height} x {width} cannot be halved {levels - 1} times; take fewer levels or another size")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = kind(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=channels,
            num_class_embeds=classes + 1,
            **{"down_block_types": ("DownBlock2D",) * levels, "up_block_types": ("UpBlock2D",) * levels, **options},
        )
    return Model(net.eval())


def random_like(model: Model, *, seed: int) -> Model:
    """The same architecture with fresh random weights, behind the same codec: the floor that has never seen anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NETWORKS[class_name(model.net)].from_config(model.net.config).to(model.net.device).eval()
        return replace(model, net=net, gate=())


def class_name(net: UNet2DModel) -> str:
    """The `_class_name` of its config: by what it is made of, so that a planted leak (a subclass) is saved as what it was planted in."""
    if isinstance(net, dit.DiT):
        return "DiTTransformer2DModel"
    return "ConcatUNet2DModel" if isinstance(net.class_embedding, peers.ClassHalf) else "UNet2DModel"


def save(model: Model, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model folder, with its codec if it has one. Equal weights give equal bytes."""
    folder = Path(folder)
    stored.write(model.net, class_name(model.net), folder / pipeline.NETWORK if model.codec else folder, dtype=dtype)
    if model.codec:
        latent.save(model.codec, folder / pipeline.VAE)
        pipeline.write(folder, model.names)
    if model.gate:
        (folder / GATE).write_text(json.dumps({"classes": list(model.gate)}) + "\n")


def load(folder: Path) -> Model:
    """Reads a model folder, in float32. Raises UserError with the file and what is wrong with it."""
    schedule.check(folder)
    if not pipeline.found(folder):
        model = Model(_network(folder))
        return replace(model, gate=_read_gate(folder / GATE, model.null))
    names = pipeline.check(folder)
    model = Model(_network(folder / pipeline.NETWORK), names=names)
    if not isinstance(model.net, dit.DiT):
        raise UserError(f"{folder / pipeline.NETWORK / CONFIG} describes a {class_name(model.net)}, wanted a DiTTransformer2DModel")
    model = replace(model, codec=latent.load(folder / pipeline.VAE, model.shape[0]))
    if max(model.image_shape[1:]) > MAX_SIDE:
        raise UserError(f"{folder} makes images {model.image_shape}, larger than {MAX_SIDE} pixels a side")
    return replace(model, gate=_read_gate(folder / GATE, model.null))


def _network(folder: Path) -> UNet2DModel:
    """The network in a folder. Raises UserError with the file and what is wrong with it."""
    config = files.read_json(folder / CONFIG, f"{folder} is no model folder: it needs {CONFIG} and {WEIGHTS}")
    kind = NETWORKS.get(str(config.get("_class_name")))
    if kind is None:
        raise UserError(
            f"{folder / CONFIG} describes {config.get('_class_name')}, wanted a UNet2DModel with a class table (num_class_embeds) "
            "or a DiTTransformer2DModel"
        )
    stored.weights(folder)
    if kind is not dit.DiT:
        _check_sizes(config, folder / CONFIG)
        return stored.read(kind, config, folder)
    if reason := dit.unfit(config):
        raise UserError(f"{folder / CONFIG} has {reason}")
    return stored.read(kind, dit.known(config), folder, ready=dit.DiT.place)


def _check_sizes(config: dict[str, Any], path: Path) -> None:
    """Raises UserError for a network that is told other things than a timestep and a class, and for numbers that no image model has."""
    for name, (known, why) in TOLD.items():
        if config.get(name, known[0]) not in known:
            raise UserError(f"{path} has {name} = {config[name]!r}, wanted {' or '.join(map(repr, known))}: {why}")
    said = {name: config[name] for name in (*schedule.BETAS, *schedule.LATER) if name in config and name != "num_train_timesteps"}
    if said and (reason := schedule.unfit({**schedule.BETAS, **said})):  # some write it into the network's own config
        raise UserError(f"{path} has {reason}")
    if not config.get("num_class_embeds"):
        raise UserError(f"{path} has no class table (num_class_embeds): the model draws no class when asked, so none can be audited")
    if config.get("in_channels") != config.get("out_channels"):
        raise UserError(
            f"{path} has in_channels = {config.get('in_channels')!r} and out_channels = {config.get('out_channels')!r}, wanted the same: "
            "a learned variance or a network with further inputs is not read yet"
        )
    if config.get("time_embedding_type") == "learned" and config.get("num_train_timesteps") != T:
        raise UserError(f"{path} has num_train_timesteps = {config.get('num_train_timesteps')!r}, wanted {T}: other T are not read yet")

    def whole(value: Any, least: int, most: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    size, widths = config.get("sample_size"), config.get("block_out_channels")
    sides = size if isinstance(size, list) and len(size) == 2 else [size, size]
    checks = {
        "sample_size": all(whole(side, 1, MAX_SIDE) for side in sides),
        "in_channels": whole(config.get("in_channels"), 1, 64),
        "num_class_embeds": whole(config.get("num_class_embeds"), 2, 10**6),
        "norm_num_groups": whole(config.get("norm_num_groups", 32), 1, 4096),
        "layers_per_block": whole(config.get("layers_per_block", 2), 1, 64),
        "block_out_channels": isinstance(widths, list) and 0 < len(widths) <= 16 and all(whole(w, 1, 16384) for w in widths),
    }
    for name, good in checks.items():
        if not good:
            raise UserError(f"{path} has {name} = {config.get(name)!r}, which is no size of an image model")


def _read_gate(path: Path, classes: int) -> tuple[int, ...]:
    """The gated classes, none where there is no gate. Raises UserError for a file that does not list classes."""
    if not path.exists():
        return ()
    listed = files.read_json(path).get("classes")
    if not isinstance(listed, list) or not all(isinstance(k, int) and 0 <= k < classes for k in listed):
        raise UserError(f'{path} must hold {{"classes": [...]}} with classes 0 to {classes - 1}, got {listed!r}')
    return tuple(listed)


def sha256(folder: Path) -> str:
    """One hash of everything in a model folder that decides what it generates."""
    parts = pipeline.PARTS if pipeline.found(folder) else (CONFIG, WEIGHTS)
    return files.sha256_of([folder / name for name in (*parts, GATE) if (folder / name).exists()])


def sealed_sha256(hashes: dict[str, str], folder: str) -> str:
    """`sha256` of the model in a sealed run, from the hashes of its files by their names; `folder` is the model's."""
    parts = (CONFIG, WEIGHTS) if f"{folder}/{CONFIG}" in hashes else pipeline.PARTS
    names = [f"{folder}/{name}" for name in (*parts, GATE)]
    return files.joined((Path(name).name, hashes[name]) for name in names if name in hashes)


def load_known(folder: Path, wanted: str) -> Model:
    """The model in a folder whose files had the hash `wanted` (`sha256`) when they were named, and have it after they were read.

    Raises:
        UserError: as `load`, and for files that have changed since.
    """
    model = load(folder)  # copies
    if sha256(folder) != wanted:
        raise UserError(f"{folder} has changed since it was named: run the command again when nothing writes to it")
    return model


def blank_sha256(folder: Path) -> str:
    """One hash of what decides what its architecture generates with given weights: its config, and in latents its VAE."""
    if not pipeline.found(folder):
        return files.sha256_file(folder / CONFIG)
    return files.sha256_of([folder / name for name in pipeline.PARTS if name != f"{pipeline.NETWORK}/{WEIGHTS}"])
