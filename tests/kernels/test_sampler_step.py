from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from auditkit_kernels import _launch, philox, sampler_step

Close = Callable[[Tensor, Tensor, Tensor], None]
KEY = {"seed": 2**63 + 5, "step": 17, "row0": 3}
IMPLS = ["torch", "triton"]
VARIANTS = [
    {"w": 1.5},
    {"w": 1.5, "eta": 1.0},
    {"w": 1.5, "eta": 0.5, "rederive": False},
    {"w": 1.5, "clip": False},
    {},
    {"eta": 1.0},
    {"clip": False, "eta": 0.3},
]


def latents(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, halves: int = 1) -> tuple[Tensor, Tensor]:
    x = philox.normal(shape, seed=1, stream=philox.DATA)
    return x.to(dtype), philox.normal((halves * shape[0], *shape[1:]), seed=2, stream=philox.DATA).to(dtype)


def definition(
    x: Tensor, eps: Tensor, abar_t: float, abar_p: float, w: float = 0, eta: float = 0, clip: bool = True, rederive: bool = True
) -> Tensor:
    x, eps = x.double(), eps.double()
    if len(eps) == 2 * len(x):
        eps = eps[: len(x)] + w * (eps[: len(x)] - eps[len(x) :])
    x0 = (x - (1 - abar_t) ** 0.5 * eps) / abar_t**0.5
    if clip:
        x0 = x0.clip(-1, 1)
    if clip and rederive:
        eps = (x - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    sigma = eta * ((1 - abar_p) / (1 - abar_t)) ** 0.5 * (1 - abar_t / abar_p) ** 0.5
    noise = philox.normal(x.shape, stream=philox.SAMPLER, **KEY).double()
    return abar_p**0.5 * x0 + (1 - abar_p - sigma**2) ** 0.5 * eps + sigma * noise


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("shape", [(3, 3, 17, 21), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernel_is_as_good_as_torch(options: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype, as_good: Close) -> None:
    x, eps = latents(shape, dtype, halves=2 if "w" in options else 1)
    exact = definition(x, eps, 0.3, 0.5, **options)
    torch_, kernel = (sampler_step(x, eps, 0.3, 0.5, **options, **KEY, impl=impl) for impl in IMPLS)
    assert torch.allclose(torch_.double(), exact, rtol=1e-5 if dtype == torch.float32 else 0.01, atol=2e-6)
    as_good(kernel, torch_, exact)


@pytest.mark.parametrize("abar_t", [4e-5, 0.9999])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_ends_of_the_chain(abar_t: float, eta: float, as_good: Close) -> None:
    x, eps = latents((2, 65), halves=2)
    for abar_p in (min(1.0, abar_t * 1.3), 1.0):
        exact = definition(x, eps, abar_t, abar_p, w=1, eta=eta)
        torch_, kernel = (sampler_step(x, eps, abar_t, abar_p, w=1, eta=eta, **KEY, impl=impl) for impl in IMPLS)
        as_good(kernel, torch_, exact)


def test_half_latents_are_computed_in_float32(rounded: Callable[[Tensor], Tensor]) -> None:
    x, eps = latents((2, 300), torch.bfloat16, halves=2)
    options: dict[str, Any] = {"w": 1.5, "eta": 1.0, **KEY}
    wide = sampler_step(x.float(), eps.float(), 0.3, 0.5, **options, impl="triton")
    assert torch.equal(sampler_step(x, eps, 0.3, 0.5, **options, impl="triton"), rounded(wide))
    wide = sampler_step(x.float(), eps.float(), 0.3, 0.5, **options, impl="torch")
    assert torch.equal(sampler_step(x, eps, 0.3, 0.5, **options, impl="torch"), wide.bfloat16())


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_latents_with_a_half_prediction(impl: str) -> None:
    x, eps = latents((2, 300), halves=2)
    found = sampler_step(x, eps.bfloat16(), 0.3, 0.5, w=1.5, impl=impl)
    assert found.dtype == torch.float32
    assert torch.equal(found, sampler_step(x, eps.bfloat16().float(), 0.3, 0.5, w=1.5, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("where", ["conditional", "null", "x"])
def test_nan_stays_nan(impl: str, where: str) -> None:
    """Triton's clamp drops NaN by default: a broken prediction became the pixel 0.645."""
    x, eps = latents((2, 5), halves=2)
    {"conditional": eps[:2], "null": eps[2:], "x": x}[where][1, 3] = float("nan")
    for options in ({}, {"rederive": False}, {"clip": False}, {"eta": 1.0}):
        out = sampler_step(x, eps, 0.3, 0.5, w=1.0, impl=impl, **options)
        assert out.isnan().nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize("impl", IMPLS)
def test_noise_is_drawn_only_when_it_counts(impl: str) -> None:
    x, eps = latents((2, 64))
    for options in ({"eta": 0.0, "abar_p": 0.5}, {"eta": 1.0, "abar_p": 1.0}):
        one, two = (sampler_step(x, eps, 0.3, **options, seed=seed, impl=impl) for seed in (1, 2))
        assert torch.equal(one, two)
    one, two = (sampler_step(x, eps, 0.3, 0.5, eta=1.0, seed=seed, impl=impl) for seed in (1, 2))
    z = [philox.normal((2, 64), seed=seed, stream=philox.SAMPLER) for seed in (1, 2)]
    sigma = (0.5 / 0.7 * (1 - 0.3 / 0.5)) ** 0.5
    assert torch.allclose(one - two, sigma * (z[0] - z[1]), atol=2e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_row_alone_equals_the_row_in_a_batch(impl: str) -> None:
    x, eps = latents((3, 1037), halves=2)
    whole = sampler_step(x, eps, 0.3, 0.5, w=1.0, eta=1.0, seed=1, row0=5, impl=impl)
    alone = sampler_step(x[2:], eps[[2, 5]], 0.3, 0.5, w=1.0, eta=1.0, seed=1, row0=7, impl=impl)
    assert torch.equal(alone, whole[2:])


def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, eps = latents((2, 1037), halves=2)
    expected = sampler_step(x, eps, 0.3, 0.5, w=1.0, eta=1.0, impl="triton")
    for block in (256, 2048):
        monkeypatch.setattr(_launch, "block_size", lambda n, dtype, block=block: block)
        assert torch.equal(sampler_step(x, eps, 0.3, 0.5, w=1.0, eta=1.0, impl="triton"), expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_strides_do_not_matter(impl: str) -> None:
    x, eps = latents((2, 3, 5, 7), halves=2)
    expected = sampler_step(x, eps, 0.3, 0.5, w=1.0, impl=impl)
    channels_last = eps.to(memory_format=torch.channels_last)
    assert torch.equal(sampler_step(x.transpose(2, 3).contiguous().transpose(2, 3), channels_last, 0.3, 0.5, w=1.0, impl=impl), expected)
    assert torch.equal(sampler_step(x, eps.repeat_interleave(2, 3)[..., ::2], 0.3, 0.5, w=1.0, impl=impl), expected)


def test_a_prepared_key_gives_the_same_numbers(device: str) -> None:
    x, eps = latents((2, 5))
    key = philox.key(KEY["seed"], KEY["step"], KEY["row0"], device=device)
    for impl in IMPLS:
        found = sampler_step(x, eps, 0.3, 0.5, eta=1.0, seed=key, impl=impl)
        assert torch.equal(found, sampler_step(x, eps, 0.3, 0.5, eta=1.0, **KEY, impl=impl))


def test_integer_numbers_are_taken() -> None:
    x, eps = latents((2, 5), halves=2)
    for impl in IMPLS:
        found = sampler_step(x, eps, 0.3, 1, w=1, eta=1, impl=impl)
        assert torch.equal(found, sampler_step(x, eps, 0.3, 1.0, w=1.0, eta=1.0, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("rederive", [True, False])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("t", [960, 520, 0])
def test_equals_the_ddim_of_diffusers(impl: str, clip: bool, rederive: bool, eta: float, t: int) -> None:
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=clip)
    scheduler.set_timesteps(25)
    x, eps = latents((2, 3, 8, 8))
    noise = philox.normal(x.shape, stream=philox.SAMPLER, **KEY)
    expected = scheduler.step(eps, t, x, eta=eta, use_clipped_model_output=rederive, variance_noise=noise).prev_sample
    abar_t, abar_p = float(scheduler.alphas_cumprod[t]), float(scheduler.alphas_cumprod[t - 40]) if t else 1.0
    found = sampler_step(x, eps, abar_t, abar_p, eta=eta, clip=clip, rederive=rederive, **KEY, impl=impl)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("t", [999, 500, 20])
def test_equals_the_ddpm_of_diffusers(impl: str, clip: bool, t: int) -> None:
    """From t = 20: below, diffusers' float32 coefficients err by more (2e-4 at t = 2, against 3e-6 here)."""
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, variance_type="fixed_small", clip_sample=clip)
    x, eps = latents((2, 3, 8, 8))
    theirs = scheduler.step(eps, t, x, generator=torch.Generator("cpu").manual_seed(0)).prev_sample
    their_sigma = scheduler._get_variance(t).sqrt()
    their_mean = theirs - their_sigma * torch.randn(x.shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu").to(x)

    abars = scheduler.alphas_cumprod.double()
    found = sampler_step(x, eps, float(abars[t]), float(abars[t - 1]), eta=1.0, clip=clip, **KEY, impl=impl)
    noise = philox.normal(x.shape, stream=philox.SAMPLER, **KEY)
    assert torch.allclose(found - their_sigma * noise, their_mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": torch.ones(3, 5)}, "expected eps float"),
        ({"eps": torch.ones(4, 6)}, "expected eps float"),
        ({"eps": torch.ones(4, 5, dtype=torch.int64)}, "expected eps float"),
        ({"eps": torch.ones(4, 5, device="meta")}, "expected eps on (cpu|cuda:0)"),
        ({"eps": torch.ones(2, 5)}, "expected both halves of eps, 4 rows, for w 1.0"),
        ({"abar_t": 1.0}, "expected 0 < abar_t < 1"),
        ({"abar_t": 0.0}, "expected 0 < abar_t < 1"),
        ({"abar_p": 1.1}, "expected 0 < abar_t < 1"),
        ({"abar_p": float("nan")}, "expected 0 < abar_t < 1"),
        ({"eta": -0.1}, "eta -0.1"),
        ({"eta": 1.0, "abar_p": 0.1}, "abar_p >= abar_t if eta > 0"),
        ({"x": torch.ones(2, 5, dtype=torch.float64), "impl": "triton"}, "images must be float32"),
        ({"eps": torch.ones(4, 5, requires_grad=True), "impl": "triton"}, "no backward pass"),
        ({"impl": None}, "expected impl in"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict[str, Any], message: str, there: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    x, eps = latents((2, 5), halves=2)
    with pytest.raises(ValueError, match=message):
        sampler_step(**({"x": x, "eps": eps, "abar_t": 0.3, "abar_p": 0.5, "w": 1.0} | there(change)))
