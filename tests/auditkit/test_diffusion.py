import pytest
import torch
from diffusers import DDPMScheduler

from auditkit import diffusion

pytestmark = pytest.mark.fast


def test_abar_is_diffusers_linear_schedule():
    reference = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    assert torch.allclose(diffusion.abar(), reference, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("lam", "mean"), [(0, 1.0), (1, 0.632), (10, 0.100), (50, 0.021), (100, 0.011)])
def test_psi_has_the_closed_form_means(lam, mean):
    """(1 - exp(-lam)) / lam, plus half a step of the sum over 1000 timesteps: 0.0205 and 0.0105 for the last two."""
    assert diffusion.psi(lam).mean().item() == pytest.approx(mean, abs=6e-4)
    assert diffusion.psi(lam, normalise=True).mean().item() == pytest.approx(1, abs=1e-5)


def test_psi_starts_at_one_and_falls():
    weight = diffusion.psi(1.0)
    assert weight[0] == 1
    assert (weight.diff() < 0).all()


def test_psi_kinds():
    t = torch.arange(diffusion.T, dtype=torch.float64)
    assert torch.equal(diffusion.psi(2.0, kind="reversed"), diffusion.psi(2.0).flip(0))
    assert torch.equal(diffusion.psi(2.0, kind="constant"), torch.ones(diffusion.T))
    assert torch.allclose(diffusion.psi(2.0, kind="linear").double(), 1 - t / diffusion.T)
    snr = diffusion.abar(dtype=torch.float64) / (1 - diffusion.abar(dtype=torch.float64))
    assert torch.allclose(diffusion.psi(2.0, kind="snr").double(), snr / (1 + snr))
    for kind in diffusion.PSI:
        assert float(diffusion.psi(2.0, kind=kind, normalise=True).mean()) == pytest.approx(1, abs=1e-5)
        assert bool((diffusion.psi(2.0, kind=kind) > 0).all())
    with pytest.raises(ValueError, match="expected psi"):
        diffusion.psi(1.0, kind="cosine")
