#!/usr/bin/env bash
# safetensors 0.8.0, torch 2.13.0.
# Expected: load_file reads the tensors; what happens to the file afterwards is nobody's business.
# Seen: the tensors are a private view of the mapped file. With load_state_dict(..., assign=True), the usual way to fill a network that was built
# on the meta device, the live parameters are that view: a write into the file (a trainer that saves in place, rsync --inplace, a shared disk) changes
# the network that is in memory. A hash that is taken afterwards is of the new bytes. `Tensor.float()` does not help: of float32 it makes no copy.
# With copy=True, or without assign, nothing changes. In auditkit: tests/auditkit/test_positive.py::test_what_is_loaded_is_what_was_named.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cd "$place"
"$place/venv/bin/python" - <<'P'
import torch
from safetensors.torch import load_file, save_file
from torch import nn

FILE = "weights.safetensors"


def changed(fill):
    """How many of two parameters of a live network differ after its file was overwritten in place by zeros."""
    saved = nn.Linear(64, 64)
    save_file({k: v.clone() for k, v in saved.state_dict().items()}, FILE)
    with torch.device("meta"):
        live = nn.Linear(64, 64)
    live = fill(live)
    before = {k: v.clone() for k, v in live.state_dict().items()}
    with open(FILE, "r+b") as opened:
        header = 8 + int.from_bytes(opened.read(8), "little")
        opened.seek(0, 2)
        size = opened.tell()
        opened.seek(header)
        opened.write(bytes(size - header))
    return sum(not torch.equal(before[k], v) for k, v in live.state_dict().items())


def assign(net):
    net.load_state_dict({k: t.float() for k, t in load_file(FILE).items()}, assign=True)
    return net


def copy(net):
    net.load_state_dict({k: t.to(torch.float32, copy=True) for k, t in load_file(FILE).items()}, assign=True)
    return net


def without_assign(net):
    net = net.to_empty(device="cpu")
    net.load_state_dict(load_file(FILE))
    return net


found = {f.__name__: changed(f) for f in (assign, copy, without_assign)}
print("parameters of 2 that changed with the file:", found)
assert found == {"assign": 2, "copy": 0, "without_assign": 0}, found
P
