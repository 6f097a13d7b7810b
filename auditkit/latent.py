"""The codec of a model that works in latents: diffusers' `AutoencoderKL`, frozen, between images and the x_0 of the network.

x_0 = (mean of the posterior - shift_factor) scaling_factor, and the decoder of x_0 / scaling_factor + shift_factor. In float32, whatever
the network runs in, and in batches, so that memory does not grow with the number of images.

Source: latent diffusion, https://arxiv.org/abs/2112.10752.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditkit import data, files, stored
from auditkit.errors import UserError

PIXELS = 2**19  # of the images in one batch: eight of 256 x 256 take 1.9 GB in the VAE of the published DiTs (84 M parameters), on a CPU
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention as it was named before diffusers 0.14
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Codec:
    """A frozen VAE; it follows the device that it is asked for."""

    vae: Any

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.vae.parameters())

    def image_shape(self, shape: Shape) -> Shape:
        """(C, H, W) of the images whose x_0 has this shape (c, h, w)."""
        side = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return int(self.vae.config["out_channels"]), side * shape[1], side * shape[2]

    def encode(self, images: Tensor, device: torch.device) -> Tensor:
        """x_0 float32 (N, c, h, w) on the CPU, for images uint8 (N, C, H, W)."""
        shift, scale = self._scaling
        return self._batches(images, device, lambda part: (self.vae.encode(data.to_model(part)).latent_dist.mean - shift) * scale, 1)

    def decode(self, x_0: Tensor, device: torch.device) -> Tensor:
        """Images float32 (N, C, H, W) on the CPU, nearly in [-1, 1], for x_0 (N, c, h, w)."""
        shift, scale = self._scaling
        factor = self.image_shape((1, 1, 1))[1] ** 2
        return self._batches(x_0, device, lambda part: self.vae.decode(part.float() / scale + shift).sample, factor)

    @property
    def _scaling(self) -> tuple[float, float]:
        return float(self.vae.config["shift_factor"] or 0.0), float(self.vae.config["scaling_factor"])

    @torch.no_grad()
    def _batches(self, x: Tensor, device: torch.device, turned: Callable[[Tensor], Tensor], factor: int) -> Tensor:
        """`turned` of x in batches of PIXELS pixels; each entry of x stands for `factor` pixels."""
        self.vae.to(device)
        size = max(1, PIXELS // (factor * x.shape[2] * x.shape[3]))
        return torch.cat([turned(part.to(device)).cpu() for part in torch.split(x, size)])


def load(folder: Path, channels: int) -> Codec:
    """The codec in a folder, for a network of so many `channels`. Raises UserError with the file and what is wrong with it."""
    config = files.read_json(folder / stored.CONFIG, f"{folder} holds no VAE: it needs {stored.CONFIG} and {stored.WEIGHTS}")
    if reason := unfit(config, channels):
        raise UserError(f"{folder / stored.CONFIG} has {reason}")
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # half a second that no pixel model pays

    vae = stored.read(AutoencoderKL, config, folder, named=_as_named_now)
    return Codec(vae.requires_grad_(False))


def save(codec: Codec, folder: Path) -> None:
    """Writes the VAE, in float32: a model folder holds all that it generates with."""
    stored.write(codec.vae, "AutoencoderKL", folder)


def unfit(config: dict[str, Any], channels: int) -> str | None:
    """Why a config is that of no VAE that we read, or None."""

    def whole(value: Any, most: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6  # not for NaN, nor for 10**400

    if config.get("_class_name") != "AutoencoderKL":
        return f"_class_name = {config.get('_class_name')!r}, wanted AutoencoderKL"
    widths, groups, scale = config.get("block_out_channels", [64]), config.get("norm_num_groups", 32), config.get("scaling_factor", 0.18215)
    if not (isinstance(widths, list) and 1 <= len(widths) <= 8 and all(whole(w, 4096) for w in widths)):
        return f"block_out_channels = {widths!r}, wanted 1 to 8 whole numbers up to 4096"
    checks = {
        "in_channels": config.get("in_channels", 3) in (1, 3) and config.get("in_channels", 3) == config.get("out_channels", 3),
        "latent_channels": config.get("latent_channels", 4) == channels,
        "layers_per_block": whole(config.get("layers_per_block", 1), 16),
        "norm_num_groups": whole(groups, 4096) and all(w % groups == 0 for w in widths),
        "down_block_types": config.get("down_block_types", [DOWN]) == [DOWN] * len(widths),
        "up_block_types": config.get("up_block_types", [UP]) == [UP] * len(widths),
        "scaling_factor": number(scale) and scale > 1e-6,
        "shift_factor": config.get("shift_factor") is None or number(config["shift_factor"]),
        "latents_mean": config.get("latents_mean") is None,
        "latents_std": config.get("latents_std") is None,
    }
    wanted = {
        "in_channels": "1 or 3, as many as out_channels",
        "latent_channels": f"{channels}, as many as the network has",
        "layers_per_block": "1 to 16",
        "norm_num_groups": "a divisor of every width",
        "down_block_types": f"{DOWN} for every width",
        "up_block_types": f"{UP} for every width",
        "scaling_factor": "a positive number",
        "shift_factor": "a number or none",
    }
    wrong = next((name for name, good in checks.items() if not good), None)
    return f"{wrong} = {config.get(wrong)!r}, wanted {wanted.get(wrong, 'none')}" if wrong else None


def _as_named_now(tensors: stored.Tensors) -> stored.Tensors:
    """Published VAEs name their attention as it was named when they were made."""
    old = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(OLD)})(?=\.)")
    return {old.sub(lambda found: OLD[found[0]], name): t for name, t in tensors.items()}
