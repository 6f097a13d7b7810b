#!/usr/bin/env bash
# diffusers 0.42.1, torch 2.13.0, transformers not installed.
# Expected: a DiTPipeline that is made with id2label, and answers get_label_ids(["shark"]), still does so after save_pretrained and from_pretrained.
# Seen: model_index.json holds no id2label; the pipeline that is read back has no labels and refuses every name. (The published DiT folders hold it: it
# was put there by hand.) So the order of the classes is lost without a word, and nothing in the folder says which row of the class table is which class.
# In auditkit: class names in the index are compared with the data's where they are; where they are not, the order cannot be checked.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'P'
import json

from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

net = DiTTransformer2DModel(
    num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4, num_embeds_ada_norm=3, norm_num_groups=4
)
vae = AutoencoderKL(latent_channels=4, block_out_channels=(8,), norm_num_groups=4)
pipeline = DiTPipeline(net, vae, DDIMScheduler(), id2label={0: "tench, Tinca tinca", 1: "goldfish", 2: "shark"})
before = pipeline.get_label_ids(["shark"])
pipeline.save_pretrained("saved")
index = json.load(open("saved/model_index.json"))
again = DiTPipeline.from_pretrained("saved")
try:
    after = again.get_label_ids(["shark"])
except ValueError as error:
    after = f"ValueError: {error}"
print("before:", before, "| in model_index.json:", sorted(index), "| after:", after[:60])
assert before == [2]
assert "id2label" not in index
assert again.labels == {}
assert str(after).startswith("ValueError")
P
