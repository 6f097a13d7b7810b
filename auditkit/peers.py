"""The UNet of Selective Amnesia and SalUn, native: a diffusers `UNet2DModel` whose blocks read [time; class] instead of their sum.

The peers concatenate the two embeddings in front of one linear layer. [temb; 0] + [0; cemb] is that concatenation, so diffusers' sum does
it where each side comes from a module of its own that pads with zeros: 38,632,323 parameters for CIFAR-10, every tensor of theirs one of
ours. `fold` gives the plain `UNet2DModel` with that padding as weights, which other tools can read and nobody should train.

Sources: `models/diffusion.py` of https://github.com/OPTML-Group/Unlearn-Saliency and https://github.com/clear-nus/selective-amnesia, equal.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from auditkit.unet import UNet

GROUPS = 32  # of every norm, fixed in the peers' code


class TimeHalf(nn.Module):
    """[MLP(sinusoids); 0]: (B, ch) to (B, 8 ch)."""

    def __init__(self, ch: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(ch, 4 * ch), nn.Linear(4 * ch, 4 * ch)

    def forward(self, sinusoids: Tensor) -> Tensor:
        made: Tensor = self.linear_2(F.silu(self.linear_1(sinusoids)))
        return F.pad(made, (0, made.shape[-1]))


class ClassHalf(nn.Module):
    """[0; MLP(table[label])]: (B,) to (B, 8 ch). The last of the table's rows is the null class."""

    def __init__(self, rows: int, ch: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, ch)
        self.linear_1, self.linear_2 = nn.Linear(ch, 4 * ch), nn.Linear(4 * ch, 4 * ch)

    @property
    def weight(self) -> Tensor:
        """The rows that the labels look up, as in the plain `nn.Embedding` that stands here elsewhere."""
        return self.table.weight

    def forward(self, labels: Tensor) -> Tensor:
        made: Tensor = self.linear_2(F.silu(self.linear_1(self.table(labels))))
        return F.pad(made, (made.shape[-1], 0))


class ConcatUNet2DModel(UNet):
    """A `UNet2DModel` with the peers' conditioning; it takes the same configuration, with a class table and embeddings of 8 ch numbers."""

    # diffusers reads the names of the configuration from this signature
    @functools.wraps(UNet2DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ch = int(self.config["block_out_channels"][0])
        if self.config["time_embedding_dim"] != 8 * ch or not self.config["num_class_embeds"]:
            raise ValueError(f"a ConcatUNet2DModel with {ch} channels needs time_embedding_dim {8 * ch} and num_class_embeds")
        self.time_embedding, self.class_embedding = TimeHalf(ch), ClassHalf(int(self.config["num_class_embeds"]), ch)


def architecture(channels: tuple[int, ...], *, attention: tuple[int, ...], blocks: int = 2) -> dict[str, Any]:
    """What `models.build` takes for the peers' UNet with these channels per level and self-attention at these levels (0 is the largest).

    Without the peers' dropout of 0.1: training here is keyed by seed and step, and torch's dropout is not.
    """
    kinds = ["Attn" if level in attention else "" for level in range(len(channels))]
    return {
        "_class_name": "ConcatUNet2DModel",
        "block_out_channels": channels,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "layers_per_block": blocks,
        "downsample_padding": 0,
        "attention_head_dim": None,
        "norm_num_groups": GROUPS,
        "norm_eps": 1e-6,
        "time_embedding_type": "positional",
        "time_embedding_dim": 8 * channels[0],
        "freq_shift": 1,
        "flip_sin_to_cos": False,
    }


CIFAR10 = architecture((128, 256, 256, 256), attention=(1,))  # 38,632,323 parameters at 3 x 32 x 32
STL10 = architecture((128, 256, 256, 256, 512), attention=(2,))  # 83,159,683 at 3 x 64 x 64


@torch.no_grad()
def fold(net: ConcatUNet2DModel) -> UNet2DModel:
    """A plain `UNet2DModel` that gives the same eps (to rounding): the class's MLP is folded into the table, the padding into weights."""
    config = {k: v for k, v in dict(net.config).items() if not k.startswith("_")}
    with torch.device("meta"):
        plain = UNet2DModel.from_config(config)
    weights = {name: t.detach().clone() for name, t in net.state_dict().items() if not name.startswith("class_embedding.")}
    half = weights["time_embedding.linear_1.bias"].shape[0]
    for layer, inner in (("linear_1", 0), ("linear_2", half)):
        matrix, bias = f"time_embedding.{layer}.weight", f"time_embedding.{layer}.bias"
        weights[matrix], weights[bias] = F.pad(weights[matrix], (0, inner, 0, half)), F.pad(weights[bias], (0, half))
    weights["class_embedding.weight"] = net.class_embedding(torch.arange(net.config["num_class_embeds"], device=net.device))
    plain.load_state_dict(weights, assign=True)
    return plain.requires_grad_(True).eval()
