"""Compiles every kernel ahead of time and prints what the machine code holds, as JSON. Run by test_aot.py.

A process of its own: with TRITON_INTERPRET=1 the kernels are not compilable. Needs no GPU.
"""

import importlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from auditkit import provenance
from auditkit_kernels import _launch, philox

# The package exports functions that have the names of their modules.
EPS_LOSS, NOISING, SAMPLER_STEP = (importlib.import_module(f"auditkit_kernels.{name}") for name in ("eps_loss", "noising", "sampler_step"))
TARGETS = {"sm_80": GPUTarget("cuda", 80, 32), "sm_90": GPUTarget("cuda", 90, 32), "gfx942": GPUTarget("hip", "gfx942", 64)}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LOSS = {"mean": (True, False), "terminal": (False, False), "latent": (False, True)}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def variants() -> list[tuple[str, Any, dict[str, str], dict[str, int], list[str]]]:
    """(name, kernel, signature, constants, types of the images that are read; the first is also the type written)."""
    table, ints = "*fp32", {"n": "i32", "timesteps": "i32"}
    found = []
    for image in TYPES:
        tensor = f"*{image}"
        signature = {"x0": tensor, "t": "*i64", "abar": table, "key": "*i64", "out": tensor, **ints}
        found.append((f"noising {image}", NOISING._kernel, signature, {"EPS": philox.EPS}, [image]))
        for name, (mean, latent) in LOSS.items():
            signature = {"pred": tensor, "t": "*i64", "forget": "*i1", "weight": table, "psi": table, "x_t": tensor, "abar": table}
            signature |= {"key": "*i64", "partial": table, "grad": tensor, **ints, "inverse_n": "fp32"}
            constants = {"MEAN": mean, "LATENT": latent, "EPS": philox.EPS, "EPS_T": philox.EPS_T}
            found.append((f"eps_loss {name} {image}", EPS_LOSS._kernel, signature, constants, [image] * (1 + latent)))
            if latent and image == "bf16":  # as training calls it: the prediction is autocast, x_t is not
                mixed = signature | {"x_t": "*fp32"}
                found.append(("eps_loss latent bf16 fp32", EPS_LOSS._kernel, mixed, constants, [image, "fp32"]))
    numbers = ("w", "root_t", "inverse_root_t", "root_rest", "inverse_root_rest", "root_p", "direction", "sigma")
    for x, eps in (("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16")):
        for guided in (False, True):
            for noise in (False, True):
                for clip, rederive in ((True, True), (True, False), (False, False)):
                    if not rederive and (noise, guided) != (False, True):
                        continue
                    key = "*i64" if noise else f"*{x}"
                    signature = {"x": f"*{x}", "eps": f"*{eps}", "key": key, "out": f"*{x}", "n": "i32"} | dict.fromkeys(numbers, "fp32")
                    constants = {"GUIDED": guided, "CLIP": clip, "REDERIVE": rederive, "NOISE": noise, "SAMPLER": philox.SAMPLER}
                    words = [word for word in ("guided", "clip", "rederive", "noise") if constants[word.upper()]]
                    name = f"sampler_step {' '.join(words)} {x} {eps}".replace("  ", " ")
                    found.append((name, SAMPLER_STEP._kernel, signature, constants, [x] + [eps] * (1 + guided)))
    return found


def compiled(kernel: Any, signature: dict[str, str], constants: dict[str, Any], block: int, target: GPUTarget) -> Any:
    """As a launch compiles it: pointers aligned to 16 bytes, n a multiple of 16 (3 x 32 x 32, 784)."""
    constants = constants | {"BLOCK": block}
    names = list(signature)
    hints = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*") or name == "n"}
    source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constexprs=constants, attrs=hints)
    return triton.compile(source, target=target, options={"num_warps": max(1, min(4, block // 256)), "enable_fp_fusion": True})


def nvidia(kernel: Any, folder: Path) -> dict[str, int]:
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    usage = subprocess.run([str(CUOBJDUMP), "-res-usage", str(cubin)], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK", "LOCAL"))
    wide = {way: len(re.findall(rf"{way}\.global[.\w]*\.v4\.b32", kernel.asm["ptx"])) for way in ("ld", "st")}
    return {
        "registers": registers,
        "spilled": stack + local,
        "wide_loads": wide["ld"],
        "wide_stores": wide["st"],
        "divisions": kernel.asm["ptx"].count("div."),
    }


def amd(kernel: Any) -> dict[str, int | None]:
    text = kernel.asm["amdgcn"]
    value = {
        word: int(re.search(rf"\.{word}:\s+(\d+)", text)[1])
        for word in ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
    }
    spilled = value["vgpr_spill_count"] + value["sgpr_spill_count"] + value["private_segment_fixed_size"]
    wide = {way: len(re.findall(rf"(?:global|buffer)_{way}_dwordx4", text)) for way in ("load", "store")}
    found = {"registers": value["vgpr_count"], "spilled": spilled, "wide_loads": wide["load"], "wide_stores": wide["store"]}
    return {**found, "divisions": None}  # not counted: a division is many instructions there


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, kernel, signature, constants, images in variants():
            for arch, target in TARGETS.items():
                half_on_amd = arch == "gfx942" and TYPES[images[0]] in _launch.HALF
                block = 2048 if half_on_amd else _launch.block_size(3072, TYPES[images[0]])
                # How many 16-byte accesses a thread needs for its share of each image; with less than one its accesses are narrow.
                share = [TYPES[image].itemsize * block // (4 * target.warp_size) / 16 for image in images]
                whole, narrow = [int(s) for s in share], sum(s < 1 for s in share)
                binary = compiled(kernel, signature, constants, block, target)
                measured = amd(binary) if arch == "gfx942" else nvidia(binary, Path(folder))
                about = {"kernel": name, "arch": arch, "block": block, "loads": sum(whole), "stores": whole[0], "narrow_images": narrow}
                rows.append({**about, **measured})
        small = compiled(NOISING._kernel, *variants()[0][2:4], 64, TARGETS["sm_90"])
        about = {"kernel": "noising fp32 64", "arch": "sm_90", "block": 64, "loads": 0, "stores": 0, "narrow_images": 1}
        rows.append({**about, **nvidia(small, Path(folder))})
    made = {"commit": provenance.commit(), "versions": provenance.versions(), "machine": provenance.machine(), "rows": rows}
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
