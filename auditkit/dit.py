"""A diffusers `DiTTransformer2DModel`, on pixels or latents, that is called and trained like our other denoisers.

It answers with eps alone, the first channels, where it also learned a variance. It drops no labels by itself: diffusers does so in training
from torch's global generator, and our batches drop theirs by keyed draws.

Source: scalable diffusion models with transformers, https://arxiv.org/abs/2212.09748.
"""

import functools
import inspect
from typing import Any

from diffusers.models.embeddings import LabelEmbedding, PatchEmbed
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor, nn

OLD_NAME = "Transformer2DModel"  # what the published DiT folders call it: the class was split off later
MOST_PATCHES = 128**2  # of one image: their positions are computed, so no weight bounds them


class DiT(DiTTransformer2DModel):  # type: ignore[misc]
    """The network behind `net(x, t, class_labels=labels).sample`; the null class is the config's `num_embeds_ada_norm`."""

    # diffusers reads the names of the configuration from this signature
    @functools.wraps(DiTTransformer2DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for module in self.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        """eps (B, C, H, W) for x (B, C, H, W), timestep (B,) and labels (B,)."""
        made = super().forward(x, timestep, class_labels=class_labels).sample
        return Transformer2DModelOutput(sample=made[:, : self.config["in_channels"]])

    @property
    def tables(self) -> list[nn.Embedding]:
        """The class tables (classes + 1, D): one in every block."""
        return [module.embedding_table for module in self.modules() if isinstance(module, LabelEmbedding)]

    def place(self) -> None:
        """Computes the patches' positions, which no file holds: after the weights were loaded into a network without memory."""
        c = self.config
        side, patch = c["sample_size"], c["patch_size"]
        self.pos_embed.pos_embed = PatchEmbed(side, side, patch, c["in_channels"], self.inner_dim).pos_embed


def known(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the settings of the older, wider class that a DiT never used."""
    if config.get("_class_name") != OLD_NAME:
        return config
    return {name: value for name, value in config.items() if name in inspect.signature(DiT.__init__).parameters}


def unfit(config: dict[str, Any]) -> str | None:
    """Why the numbers of a config are no image model's, or None."""

    def whole(name: str, default: int, most: int) -> bool:
        value = config.get(name, default)
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    limits = {"sample_size": (32, 4096), "in_channels": (4, 64), "num_embeds_ada_norm": (1000, 10**6), "patch_size": (2, 256)}
    limits |= {"num_layers": (28, 256), "num_attention_heads": (16, 256), "attention_head_dim": (72, 1024)}
    for name, (default, most) in limits.items():
        if not whole(name, default, most):
            return f"{name} = {config.get(name)!r}, which is no size of an image model"
    channels, side, patch = config.get("in_channels", 4), config.get("sample_size", 32), config.get("patch_size", 2)
    if config.get("out_channels") not in (None, channels, 2 * channels):
        return f"out_channels = {config.get('out_channels')!r}, wanted {channels}, or {2 * channels} with a learned variance"
    if side % patch or (side // patch) ** 2 > MOST_PATCHES:
        return f"images of {side} x {side} in patches of {patch}: wanted a divisor, and at most {MOST_PATCHES} patches"
    return None
