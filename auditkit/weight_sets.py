"""Sets of weights in a checkpoint: every complete copy of a network's parameters, by whatever names, and the numbers that belong to none.

Trainers keep the average beside the weights as `ema.<name>` (most), as `model_ema.<name without dots>` (LDM), or as a plain list in the
order of the parameters (diffusers, torch.optim). And a tensor's file holds its whole storage, also what no name points at.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]
LARGE = 2  # numbers in a tensor from which on it could be a weight: below are step counts and decays
UNNAMED = "unnamed numbers"


@dataclass(frozen=True)
class Found:
    """`sets`: each complete set by what stands before or around its names. `rest`: how many numbers lie outside all of them, by the
    tensor that holds them, or under "unnamed numbers" where no name points at them.
    """

    sets: dict[str, Weights]
    rest: dict[str, int]


def find(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Found:
    """Every set in flat names and tensors (checkpoint.read) with the shapes of `wanted`, a network's parameters by name, in order."""
    sets: dict[str, Weights] = {}
    used: set[str] = set()
    for called, names in (*_by_name(tensors, wanted), *_by_place(tensors, wanted)):
        fits = all(tensors[names[k]].shape == wanted[k].shape and tensors[names[k]].is_floating_point() for k in wanted)
        if called not in sets and fits:  # whole numbers are quantised weights, which no one can read without their scales
            sets[called] = {k: tensors[names[k]] for k in wanted}
            used |= set(names.values())
    rest = {name: t.numel() for name, t in tensors.items() if name not in used and t.numel() >= LARGE}
    hidden, left = _unnamed(tensors, wanted, sets)
    return Found(sets | hidden, rest | ({UNNAMED: left} if left else {}))


def _by_name(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, str]]]:
    """Prefix and names of sets that are called as the network calls them, with or without the dots."""
    for spelt in ({k: k for k in wanted}, {k: k.replace(".", "") for k in wanted}):
        first = next(iter(spelt.values()))
        for name in tensors:
            prefix = name.removesuffix(first)
            if name.endswith(first) and (not prefix or prefix[-1] in "./") and all(prefix + s in tensors for s in spelt.values()):
                yield prefix, {k: prefix + s for k, s in spelt.items()}


def _by_place(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, str]]]:
    """Pattern and names of sets that are numbered instead, like "state.3.exp_avg" or "shadow_params.3", in the network's order."""
    lists: dict[tuple[str, str], dict[int, str]] = {}
    for name in tensors:
        for number in re.finditer(r"(?:(?<=\.)|^)\d{1,6}(?=\.|$)", name):
            lists.setdefault((name[: number.start()], name[number.end() :]), {})[int(number[0])] = name
    for (head, tail), by_number in lists.items():
        for start in by_number:
            names = [by_number.get(start + i) for i in range(len(wanted))]
            pairs = {k: name for k, name in zip(wanted, names, strict=True) if name is not None}
            if len(pairs) == len(wanted) and all(tensors[name].shape == wanted[k].shape for k, name in pairs.items()):
                yield f"{head}*{tail}" if start == min(by_number) else f"{head}{start}...{tail}", pairs


def _unnamed(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], sets: Mapping[str, Weights]) -> tuple[dict[str, Weights], int]:
    """What the storages hold beside the tensors over them: whole sets of it, and how many numbers remain."""
    over: dict[int, list[Tensor]] = {}
    for tensor in tensors.values():
        over.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
    total, left = sum(t.numel() for t in wanted.values()), 0
    found: dict[str, Weights] = {}
    for place, views in over.items():
        rest = _uncovered(views)
        order = next((_order(s) for s in sets.values() if all(t.untyped_storage().data_ptr() == place for t in s.values())), [*wanted])
        for k in range(len(rest) // total):
            called = f"{UNNAMED}{f' {len(found) + 1}' if found else ''}"
            found[called] = _laid_out(rest[k * total : (k + 1) * total], {name: wanted[name] for name in order})
        left += len(rest) % total
    return found, left


def _order(weights: Weights) -> list[str]:
    """The names as their tensors lie in their storage: what no name points at lies in the order of what has names."""
    return sorted(weights, key=lambda name: weights[name].storage_offset())


def _uncovered(views: list[Tensor]) -> Tensor:
    """The numbers (N,) of one storage that no tensor over it shows, in order; bytes where the tensors are of several types."""
    storage = views[0].untyped_storage()
    shown = torch.zeros(storage.nbytes(), dtype=torch.bool)
    for view in views:
        width = view.element_size()
        cells = torch.zeros(storage.nbytes() // width, dtype=torch.bool)
        if view.numel():
            cells.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(True)
        shown[: len(cells) * width] |= cells.repeat_interleave(width)
    kind = views[0].dtype
    if not kind.is_floating_point or any(view.dtype != kind for view in views):
        kind = torch.uint8
    flat = torch.empty(0, dtype=kind).set_(storage)
    width = flat.element_size()
    return flat[~shown[: len(flat) * width].view(-1, width).any(dim=1)]


def _laid_out(numbers: Tensor, shapes: Mapping[str, Tensor]) -> Weights:
    """`numbers` (N,) as tensors of these shapes, one after another."""
    ends = list(itertools.accumulate(t.numel() for t in shapes.values()))
    return {k: numbers[end - t.numel() : end].view(t.shape) for (k, t), end in zip(shapes.items(), ends, strict=True)}
