"""The peers' tensors and ours: names, shapes, and the architecture that the shapes tell, since no checkpoint of theirs holds one.

Every tensor of theirs is one of ours, to the bit, but for the class table: ours holds their null class as its last row.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from auditkit.errors import UserError
from auditkit.peers import GROUPS, ConcatUNet2DModel, architecture

Weights = dict[str, Tensor]
ATTENTION_AT = 16  # the side that has self-attention, in every configuration of theirs
TABLE, CLASSES, NULL = "class_embedding.table.weight", "classes_emb.weight", "null_classes_emb"

# diffusers' names on the left, the peers' on the right; applied in this order. Levels on the way up are counted from the other end.
RENAMED = (
    ("down_blocks.", "down."),
    ("mid_block.resnets.0.", "mid.block_1."),
    ("mid_block.resnets.1.", "mid.block_2."),
    ("mid_block.attentions.0.", "mid.attn_1."),
    (".resnets.", ".block."),
    (".attentions.", ".attn."),
    (".downsamplers.0.", ".downsample."),
    (".upsamplers.0.", ".upsample."),
    ("time_emb_proj", "temb_cemb_proj"),
    ("conv_shortcut", "nin_shortcut"),
    ("group_norm", "norm"),
    (".to_out.0.", ".proj_out."),
    (".to_", "."),
    ("conv_norm_out", "norm_out"),
    ("time_embedding.linear_1", "temb.dense.0"),
    ("time_embedding.linear_2", "temb.dense.1"),
    ("class_embedding.linear_1", "cemb.dense.0"),
    ("class_embedding.linear_2", "cemb.dense.1"),
)


def infer(weights: Mapping[str, Tensor], size: int | None = None) -> dict[str, Any]:
    """The configuration of a ConcatUNet2DModel from the names and shapes of the peers' tensors; no file of theirs holds one.

    The side of the images is in no shape: it follows from the one level with attention, which the peers put at 16 x 16, or is `size`.

    Raises:
        UserError: a tensor that every such model has is missing or has the wrong number of dimensions, or `size` is needed.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        found = weights.get(name)
        if found is None or found.dim() != dimensions:
            came = "there is none" if found is None else f"it has shape {tuple(found.shape)}"
            raise UserError(f"no checkpoint of SalUn or Selective Amnesia: wanted a tensor {name} of {dimensions} dimensions, {came}")
        return tuple(found.shape)

    def count(pattern: str) -> int:
        return len({found[1] for name in weights if (found := re.match(pattern, name))})

    ch, in_channels, *_ = shape("conv_in.weight", 4)
    levels, blocks = count(r"down\.(\d+)\."), count(r"down\.0\.block\.(\d+)\.")
    channels = tuple(shape(f"down.{level}.block.0.conv1.weight", 4)[0] for level in range(levels))
    attention = tuple(level for level in range(levels) if f"down.{level}.attn.0.q.weight" in weights)
    if not channels or channels[0] != ch or any(width % GROUPS or not width for width in channels):
        raise UserError(f"no checkpoint of SalUn or Selective Amnesia: channels {channels} after {ch}; theirs are multiples of {GROUPS}")
    if size is None and len(attention) != 1:
        raise UserError(f"the side of the images cannot be inferred from attention at {len(attention)} levels: give it with --size")
    side = size if size is not None else ATTENTION_AT * 2 ** attention[0]
    if levels > 16 or not 1 <= side <= 4096 or side % 2 ** (levels - 1):
        raise UserError(f"images of {side} x {side} cannot be halved {levels - 1} times; give their side with --size")
    return {
        **architecture(channels, attention=attention, blocks=blocks),
        "sample_size": side,
        "in_channels": in_channels,
        "out_channels": shape("conv_out.weight", 4)[0],
        "num_class_embeds": shape(CLASSES, 2)[0] + 1,
    }


def build(weights: Weights, config: dict[str, Any]) -> ConcatUNet2DModel:
    """The native network that holds the peers' tensors themselves, in evaluation mode.

    Raises:
        UserError: a tensor is missing, left over or of another shape than `config` asks for.
    """
    with torch.device("meta"):
        net: ConcatUNet2DModel = ConcatUNet2DModel.from_config({k: v for k, v in config.items() if not k.startswith("_")})
    wanted, left, found = net.state_dict(), dict(weights), {}
    levels = len(config["block_out_channels"])
    for name, like in wanted.items():
        theirs = [CLASSES, NULL] if name == TABLE else [peer_name(name, levels)]
        gone = [t for t in theirs if t not in left]
        if gone:
            raise UserError(f"the checkpoint is incomplete: {gone[0]} is missing")
        parts = [left.pop(t) for t in theirs]
        shapes = [(like.shape[0] - 1, like.shape[1]), (like.shape[1],)] if name == TABLE else [_peer_shape(name, like)]
        for theirs_name, part, shape in zip(theirs, parts, shapes, strict=True):
            if tuple(part.shape) != tuple(shape):
                raise UserError(f"the checkpoint does not fit: {theirs_name} has shape {tuple(part.shape)}, wanted {tuple(shape)}")
        found[name] = torch.cat([parts[0], parts[1][None]]) if name == TABLE else parts[0].reshape(like.shape)
    if left:
        raise UserError(f"the checkpoint holds {len(left)} tensors that the model has no place for: {next(iter(left))}")
    net.load_state_dict({name: t.detach().float().contiguous() for name, t in found.items()}, assign=True)
    net.requires_grad_(True).eval()
    return net


def to_peer(net: ConcatUNet2DModel) -> Weights:
    """The peers' names and shapes of every weight: the inverse of `build`, to the bit."""
    levels, found = len(net.config["block_out_channels"]), {}
    for name, tensor in net.state_dict().items():
        kept = tensor.detach().to("cpu", torch.float32, copy=True)
        if name == TABLE:
            found[CLASSES], found[NULL] = kept[:-1].clone(), kept[-1].clone()
        else:
            found[peer_name(name, levels)] = kept.reshape(_peer_shape(name, kept)).contiguous()
    return found


def peer_name(name: str, levels: int) -> str:
    """The peers' name of one of our tensors, the class table aside."""
    name = re.sub(r"^up_blocks\.(\d+)\.", lambda found: f"up.{levels - 1 - int(found[1])}.", name)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return name


def _peer_shape(name: str, tensor: Tensor) -> tuple[int, ...]:
    """Their attention is made of 1 x 1 convolutions, diffusers' of linear layers."""
    return (*tensor.shape, 1, 1) if ".to_" in name and name.endswith(".weight") else tuple(tensor.shape)
