"""The fused operations beside plain PyTorch: eager, and torch.compile of the same plain code; and how near the copy bandwidth they come.

The plain arms do what people write: `torch.randn_like`, the mean square, autograd. Ours draws keyed noise that it never stores.
"""

import math
from typing import Any

import torch
from torch import Tensor

from auditkit import diffusion
from auditkit.bench import timing
from auditkit.bench.timing import Arm
from auditkit_kernels import eps_loss, noising, sampler_step
from auditkit_kernels.eps_loss import eps_loss_ref
from auditkit_kernels.noising import noising_ref
from auditkit_kernels.sampler_step import sampler_step_ref

SHAPE = (3, 32, 32)
BYTES = {"cuda": 2**28, "cpu": 2**22}  # of one image-sized float32 tensor
MOVES = {"eps_loss": 2, "noising": 2, "sampler_step": 4}  # image-sized tensors read or written: pred, grad; x0, x_t; x, eps twice, x_p
EXACT = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


def run(repeats: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Every operation by each arm that runs here. On a CPU there is no kernel: ours is the definition itself."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n = BYTES[device] // 4 // math.prod(SHAPE)
    given = inputs(n, device, dtype)
    ops = {"noising": noise_arms, "eps_loss": loss_arms, "sampler_step": step_arms}
    found: dict[str, Any] = {}
    for name, make in ops.items():
        arms, wrong = make(given)
        rows = {} if wrong else timing.alternate(arms, repeats=repeats, warmup=3)
        moved = MOVES[name] * given["x"].numel() * given["x"].element_size()
        found[name] = {"wrong": wrong, "bytes": moved, "arms": rows, "times_ours": timing.ratios(rows, "auditkit") if rows else {}}
        if "seconds" in rows.get("auditkit", {}):
            found[name]["bytes_per_second"] = moved / rows["auditkit"]["seconds"]
    copied = timing.alternate({"copy": lambda: given["x"].clone()}, repeats=repeats, warmup=3)["copy"]
    bandwidth = 2 * given["x"].numel() * given["x"].element_size() / copied["seconds"]
    return {
        "what": "kernels",
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": n,
        "copy_bytes_per_second": bandwidth,
        "ops": found,
    }


def inputs(n: int, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random rows of the CIFAR-10 shape; nothing is zero."""
    drawn = torch.Generator(device).manual_seed(0)
    x, eps, pred = (torch.randn((rows, *SHAPE), generator=drawn, device=device).to(dtype) for rows in (n, 2 * n, n))
    t = torch.randint(0, diffusion.T, (n,), generator=drawn, device=device)
    weight = torch.full((n,), 2 / n, device=device)
    forget = torch.arange(n, device=device) % 2 == 0
    return {
        "x": x,
        "eps": eps,
        "pred": pred,
        "t": t,
        "weight": weight,
        "forget": forget,
        "psi": diffusion.psi(1.0).to(device),
        "abar": diffusion.abar(device),
    }


def noise_arms(given: dict[str, Tensor]) -> tuple[dict[str, Arm], str | None]:
    x, t, abar = given["x"], given["t"], given["abar"]

    def plain() -> Tensor:
        at = abar[t][:, None, None, None]
        return (at.sqrt() * x + (1 - at).sqrt() * torch.randn_like(x)).to(x.dtype)

    def ours() -> Tensor:
        return noising(x, t, abar, seed=1, step=2)

    wrong = timing.close("noising", ours(), noising_ref(x.float(), t, abar, seed=1, step=2), EXACT[x.dtype])
    return {"auditkit": ours, "eager": plain, "torch.compile": compiled(plain)}, wrong


def loss_arms(given: dict[str, Tensor]) -> tuple[dict[str, Arm], str | None]:
    pred, t, forget, weight, psi = (given[k] for k in ("pred", "t", "forget", "weight", "psi"))
    eps = torch.randn_like(pred)  # what a plain loop has kept from noising
    leaf = pred.clone().requires_grad_(True)

    def rows(out: Tensor) -> Tensor:
        wanted = torch.where(forget[:, None, None, None], torch.randn_like(eps), eps)
        scale = torch.where(forget, psi[t], 1.0)
        total: Tensor = (weight * scale * (wanted - out).float().square().mean(dim=(1, 2, 3))).sum()
        return total

    def ours() -> tuple[Tensor, Tensor]:
        return eps_loss(pred, t, forget, weight, psi, seed=1, step=2)

    fast = compiled(rows)
    wanted = eps_loss_ref(pred.float(), t, forget, weight, psi, seed=1, step=2)
    found = ours()
    wrong = timing.close("loss", found[0], wanted[0], 1e-4) or timing.close("gradient", found[1], wanted[1], EXACT[pred.dtype])
    arms: dict[str, Arm] = {
        "auditkit": ours,
        "eager": lambda: torch.autograd.grad(rows(leaf), leaf),
        "torch.compile": lambda: torch.autograd.grad(fast(leaf), leaf),
    }
    return arms, wrong


def step_arms(given: dict[str, Tensor]) -> tuple[dict[str, Arm], str | None]:
    x, eps = given["x"], given["eps"]
    at, ap, w = 0.3, 0.4, 1.0

    def plain() -> Tensor:
        conditional, null = eps.chunk(2)
        e = (1 + w) * conditional - w * null
        x0 = ((x - (1 - at) ** 0.5 * e) / at**0.5).clamp(-1, 1)
        e = (x - at**0.5 * x0) / (1 - at) ** 0.5
        after: Tensor = ap**0.5 * x0 + (1 - ap) ** 0.5 * e
        return after

    def ours() -> Tensor:
        return sampler_step(x, eps, at, ap, w=w)

    wrong = timing.close("sampler step", ours(), sampler_step_ref(x.float(), eps.float(), at, ap, w=w), EXACT[x.dtype])
    return {"auditkit": ours, "eager": plain, "torch.compile": compiled(plain)}, wrong


def compiled(function: Any) -> Any:
    """torch.compile of plain code; where there is no compiler, its first call says so."""
    return torch.compile(function, dynamic=False)
