"""Denoisers: a diffusers `UNet2DModel` with one more class row than classes, the peers' (peers.py) or a pixel DiT (dit.py); the last row is
the null class.

A model folder is diffusers' own: `config.json` and `diffusion_pytorch_model.safetensors`, and optionally `gate.json`.
A folder is foreign until it is read: only safetensors, sizes capped, symlinks refused, nothing is unpickled.
"""

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from auditkit import dit, files, peers
from auditkit.errors import UserError
from auditkit.unet import UNet

MAX_SIDE = 4096  # pixels
NETWORKS = {"UNet2DModel": UNet, "ConcatUNet2DModel": peers.ConcatUNet2DModel, "DiTTransformer2DModel": dit.DiT}
WEIGHTS, CONFIG, GATE = "diffusion_pytorch_model.safetensors", "config.json", "gate.json"

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
    """A denoiser in memory: its network and, if it is gated, the classes for which a query gets noise."""

    net: UNet2DModel
    gate: tuple[int, ...] = ()

    @property
    def null(self) -> int:
        """The null class: the last row of the class table."""
        return int(self.net.config["num_embeds_ada_norm"] if isinstance(self.net, dit.DiT) else self.net.config["num_class_embeds"] - 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        size = self.net.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.net.config["in_channels"]), int(height), int(width)

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
    """The same architecture with fresh random weights: the floor that has never seen anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(NETWORKS[class_name(model.net)].from_config(model.net.config).to(model.net.device).eval())


def class_name(net: UNet2DModel) -> str:
    """The `_class_name` of its config: by what it is made of, so that a planted leak (a subclass) is saved as what it was planted in."""
    if isinstance(net, dit.DiT):
        return "DiTTransformer2DModel"
    return "ConcatUNet2DModel" if isinstance(net.class_embedding, peers.ClassHalf) else "UNet2DModel"


def save(model: Model, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model folder. Equal weights give equal bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {k: v for k, v in dict(model.net.config).items() if not k.startswith("_")}
    (folder / CONFIG).write_text(json.dumps({"_class_name": class_name(model.net), **config}, indent=2, sort_keys=True) + "\n")
    if model.gate:
        (folder / GATE).write_text(json.dumps({"classes": list(model.gate)}) + "\n")


def load(folder: Path) -> Model:
    """Reads a model folder, in float32. Raises UserError with the file and what is wrong with it."""
    config = files.read_json(folder / CONFIG, f"{folder} is no model folder: it needs {CONFIG} and {WEIGHTS}")
    kind = NETWORKS.get(str(config.get("_class_name")))
    rows = config.get("num_embeds_ada_norm", 1000) if kind is dit.DiT else config.get("num_class_embeds")
    if kind is None or not rows:
        raise UserError(
            f"{folder / CONFIG} describes {config.get('_class_name')}, wanted a UNet2DModel with a class table (num_class_embeds) "
            "or a DiTTransformer2DModel"
        )
    weights = files.check_safetensors(folder / WEIGHTS)
    if kind is not dit.DiT:
        _check_sizes(config, folder / CONFIG)
    elif reason := dit.unfit(config):
        raise UserError(f"{folder / CONFIG} has {reason}")
    try:
        with torch.device("meta"):  # shapes alone: a config that asks for terabytes costs nothing
            net = kind.from_config({k: v for k, v in config.items() if not k.startswith("_")})
        tensors = {name: t.float() for name, t in load_file(weights).items()}
        net.load_state_dict(tensors, assign=True)
        if isinstance(net, dit.DiT):
            net.place()
    except Exception as error:  # a foreign config can fail in any way inside diffusers, and none of them is a bug of ours
        raise UserError(f"{weights} does not fit {folder / CONFIG}: {str(error).splitlines()[0]}") from error
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    bad = [name for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if bad:
        raise UserError(f"{weights} holds NaN or infinity in {bad[0]}: this model has diverged and cannot be audited")
    model = Model(net.eval())
    return replace(model, gate=_read_gate(folder / GATE, model.null))


def _check_sizes(config: dict[str, Any], path: Path) -> None:
    """Raises UserError for numbers in a config that no image model has."""

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
    return files.sha256_of([folder / name for name in (CONFIG, WEIGHTS, GATE) if (folder / name).exists()])
