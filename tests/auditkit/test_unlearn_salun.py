"""SalUn: the mask is what the paper says, masked weights stay, and rl teaches the next class."""

import pytest
import torch

from auditkit import data, diffusion, training
from auditkit.errors import UserError
from auditkit.unlearn import salun
from auditkit.unlearn.salun import Params
from auditkit_kernels import noising, philox


@pytest.fixture(scope="module")
def twos(digits):
    images, labels = digits.part("model", torch.tensor([2]))
    return data.to_model(images), labels


def test_the_mask_is_the_share_with_the_largest_guided_gradient(tiny, twos):
    """One batch, by autograd on two separate passes in float64."""
    x, labels = twos[0][:20], twos[1][:20]
    found = salun.saliency(tiny, x, labels, Params(mask_ratio=0.3), seed=4)
    kept = torch.cat([m.flatten() for m in found.values()])
    assert int(kept.sum()) == round(0.3 * len(kept))
    t = training.timesteps(20, seed=4, step=salun.MASK_STEP)
    eps = philox.normal(x.shape, seed=4, stream=philox.EPS, step=salun.MASK_STEP).double()
    x_t = noising(x, t, diffusion.abar(), seed=4, step=salun.MASK_STEP).double()
    net = tiny.copy().net.double()
    guided = 3 * net(x_t, t, class_labels=labels).sample - 2 * net(x_t, t, class_labels=torch.full_like(labels, tiny.null)).sample
    torch.autograd.backward((eps - guided).square().flatten(1).sum(1).mean())
    size = torch.cat([p.grad.abs().flatten() for p in net.parameters()])
    assert float(size[kept].min()) > 0.99 * float(size[~kept].max())


def test_masked_weights_do_not_move_and_the_others_do(tiny, digits, monkeypatch):
    masks, real = [], salun.saliency

    def kept(*arguments, **options):
        masks.append(real(*arguments, **options))
        return masks[-1]

    monkeypatch.setattr(salun, "saliency", kept)
    made = salun.run(tiny, digits, (2,), Params(steps=3, batch=8), seed=0)
    moved = {name: p != q for (name, p), q in zip(made.net.named_parameters(), tiny.net.parameters(), strict=True)}
    for name, where in moved.items():
        assert not (where & ~masks[0][name]).any(), name
    changed, may = (sum(int(m.sum()) for m in found.values()) for found in (moved, masks[0]))
    assert changed > 0.8 * may


def test_rl_descends_towards_what_the_next_class_gives(tiny, digits, monkeypatch):
    """Loss and gradient of one step are those of the formula, with the target held fixed."""
    seen = {}

    def fit(net, batches, recipe, *, descend, mask, **_):
        batch, abar = batches(0), diffusion.abar()
        value = descend(net, batch, training.Loss(), abar, seed=0, step=0)
        mine = {name: p.grad.clone() for name, p in net.named_parameters()}
        net.zero_grad()
        t = training.timesteps(len(batch.x0), seed=0, step=0)
        x_t = noising(batch.x0, t, abar, seed=0, step=0)
        out = net(x_t, t, class_labels=batch.labels).sample
        asked = torch.where(batch.labels[:8] == tiny.null, tiny.null, 3)
        wanted = net(x_t[:8], t[:8], class_labels=asked).sample.detach()
        eps = philox.normal(batch.x0.shape, seed=0, stream=philox.EPS, step=0)
        total = (wanted - out[:8]).square().mean() + 3.07 * (eps[8:] - out[8:]).square().mean()
        torch.autograd.backward(total)
        seen["value"] = (float(value), float(total.detach()))
        seen["grads"] = [(mine[name], p.grad) for name, p in net.named_parameters()]

    monkeypatch.setattr(training, "fit", fit)
    salun.run(tiny, digits, (2,), Params(batch=8, mask_ratio=1.0), seed=0)
    assert seen["value"][0] == pytest.approx(seen["value"][1], rel=1e-4)
    for mine, wanted in seen["grads"]:
        assert torch.allclose(mine, wanted, atol=1e-5 + 1e-3 * float(wanted.abs().max()))


def test_the_next_class_is_one_that_is_kept():
    assert salun.following((2,), 10)[2] == 3
    assert salun.following((9,), 10)[9] == 0
    assert [salun.following((2, 3), 10)[k] for k in (2, 3)] == [4, 4]


def test_the_cost_of_the_mask_is_counted_apart():
    """As published: 1000 steps of 128 and 5000 forget images."""
    assert salun.costs(Params(steps=1000, batch=128), 5000, 10) == {"mask": 30_000, "training": 896_000}
    assert salun.costs(Params(mask_ratio=1.0), 5000, 10)["mask"] == 0


@pytest.mark.parametrize(
    "bad", [{"mask_ratio": 0}, {"mask_ratio": 1.5}, {"objective": "rll"}, {"alpha": -1}, {"mask_guidance": float("nan")}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError):
        Params(**bad)
