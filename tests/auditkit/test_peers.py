"""The peers' network: ours against a re-creation of theirs (conftest.py), which shares no code with it."""

import pytest
import torch
from diffusers import UNet2DModel

from auditkit import models, peer_weights, peers, sampling
from auditkit.errors import UserError
from auditkit_kernels import philox

SHAPES = [  # (the oracle's options, images, batch)
    ({}, 16),
    ({"ch": 64, "mult": (1, 2), "attention": (0, 1), "blocks": 2, "classes": 4, "channels": 1}, 8),
    ({"mult": (1, 1, 2, 4), "attention": (), "classes": 3}, 16),
]


def imported(net, size):
    weights = net.state_dict()
    return models.Model(peer_weights.build(weights, peer_weights.infer(weights, size)))


def rows(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, *model.shape, generator=generator)
    labels = torch.tensor([0, 1, 2, -1, -1, 0])
    return x, torch.tensor([0, 1, 250, 500, 999, 998]), labels, torch.where(labels < 0, model.null, labels)


@pytest.mark.parametrize(
    ("architecture", "side", "parameters", "tensors"), [(peers.CIFAR10, 32, 38_632_323, 334), (peers.STL10, 64, 83_159_683, 396)]
)
def test_the_networks_of_the_papers_have_their_number_of_parameters(architecture, side, parameters, tensors):
    """Numbers measured on the peers' own code. Their null class is a tensor of its own, ours a row."""
    with torch.device("meta"):
        model = models.build((3, side, side), 10, seed=0, architecture=architecture)
    assert model.parameters == parameters
    assert len(model.net.state_dict()) == tensors - 1


@pytest.mark.parametrize(("options", "size"), SHAPES)
def test_eps_and_gradients_are_the_original_modules(make_peer, options, size):
    theirs = make_peer(**options)
    model = imported(theirs, size)
    assert model.parameters == sum(p.numel() for p in theirs.parameters())
    x, t, labels, ours = rows(model)
    wanted, got = theirs(x, t, labels), model.net(x, t, class_labels=ours).sample
    assert (wanted - got).abs().max() < 1e-5
    assert wanted.std() > 0.1
    assert (theirs(x, t, labels.flip(0)) - wanted).abs().max() > 1e-3, "the class matters to this oracle"
    up = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    wanted.backward(up)
    got.backward(up)
    known = dict(theirs.named_parameters())
    for name, p in model.net.named_parameters():
        if name == peer_weights.TABLE:
            grad = torch.cat([known["classes_emb.weight"].grad, known["null_classes_emb"].grad[None]])
        else:
            grad = known[peer_weights.peer_name(name, len(theirs.down))].grad.reshape(p.shape)
        assert (p.grad - grad).abs().max() < 1e-4 * max(1.0, float(grad.abs().max())), name


@pytest.mark.fast
def test_guidance_uses_the_null_row_and_the_batch_may_mix_labels(make_peer):
    theirs = make_peer(mult=(1, 2))
    model = imported(theirs, 8)
    x, t, _, _ = rows(model)
    null, two = torch.full((6,), -1), torch.full((6,), 2)
    wanted = 3 * theirs(x, t, two) - 2 * theirs(x, t, null)
    eps = model.net(torch.cat([x, x]), torch.cat([t, t]), class_labels=torch.cat([two, null + 1 + model.null])).sample
    assert (3 * eps[:6] - 2 * eps[6:] - wanted).abs().max() < 5e-5  # five times the 1e-5 of each eps


@pytest.mark.parametrize(("options", "size"), SHAPES)
def test_there_and_back_is_bit_equal(make_peer, options, size):
    theirs = make_peer(**options).state_dict()
    back = peer_weights.to_peer(peer_weights.build(theirs, peer_weights.infer(theirs, size)))
    assert set(back) == set(theirs)
    assert all(back[name].shape == t.shape and torch.equal(back[name], t) for name, t in theirs.items())


@pytest.mark.parametrize(("options", "size"), SHAPES)
def test_the_folded_network_is_plain_and_gives_the_same_eps(make_peer, options, size, tmp_path):
    model = imported(make_peer(**options), size)
    models.save(models.Model(peers.fold(model.net)), tmp_path / "plain")
    plain = UNet2DModel.from_pretrained(tmp_path / "plain", use_safetensors=True)
    x, t, _, labels = rows(model)
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, 1e-6)):  # one rounding of the table is all that is left in float64
        with torch.no_grad():
            wanted = model.net.to(dtype)(x.to(dtype), t, class_labels=labels).sample
            assert (plain.to(dtype)(x.to(dtype), t, class_labels=labels).sample - wanted).abs().max() < most


def test_the_native_form_is_a_model_like_every_other(make_peer, tmp_path):
    model = imported(make_peer(), 16)
    x, t, _, labels = rows(model)
    with torch.no_grad():
        eps = model.net(x, t, class_labels=labels).sample
        models.save(model, tmp_path)
        again = models.load(tmp_path)
        assert isinstance(again.net, peers.ConcatUNet2DModel)
        assert torch.equal(again.net(x, t, class_labels=labels).sample, eps)
        assert (again.null, again.shape, again.class_table.shape) == (10, (3, 16, 16), (11, 32))
        twin, other = model.copy(), models.random_like(model, seed=1)
        assert torch.equal(twin.net(x, t, class_labels=labels).sample, eps)
        assert other.parameters == model.parameters
        assert not torch.equal(other.net(x, t, class_labels=labels).sample, eps)
        twin.class_table[2] = twin.class_table[0]  # live rows: what an attack writes is what the labels look up
        moved = twin.net(x, t, class_labels=torch.full_like(labels, 2)).sample
        assert torch.equal(moved, model.net(x, t, class_labels=torch.zeros_like(labels)).sample)
        assert torch.equal(model.net(x, t, class_labels=labels).sample, eps)


def test_the_side_of_the_images_follows_from_the_level_with_attention(make_peer):
    weights = make_peer(mult=(1, 1, 2)).state_dict()
    assert peer_weights.infer(weights)["sample_size"] == 32
    assert peer_weights.infer(weights, 64)["sample_size"] == 64
    with pytest.raises(UserError, match="attention at 0 levels: give it with --size"):
        peer_weights.infer(make_peer(attention=()).state_dict())
    with pytest.raises(UserError, match="cannot be halved 2 times"):
        peer_weights.infer(weights, 30)


@torch.no_grad()
def generalized_steps(net, x, labels, *, steps, w, eta, noise):
    """The peers' sampling loop from its description: `noise(k)` in place of their draws."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).float()
    abar = torch.cat([torch.zeros(1), betas]).neg().add(1).cumprod(0)  # abar[t + 1], and 1 for t = -1
    times = list(range(0, 1000, 1000 // steps))
    for k, (now, after) in enumerate(zip(reversed(times), reversed([-1, *times[:-1]]), strict=True)):
        t = torch.full((len(x),), now)
        eps = (1 + w) * net(x, t, labels) - w * net(x, t, torch.full_like(labels, -1))
        a, b = abar[now + 1], abar[after + 1]
        x0 = (x - eps * (1 - a).sqrt()) / a.sqrt()
        sigma = eta * ((1 - a / b) * (1 - b) / (1 - a)).sqrt()
        x = b.sqrt() * x0 + sigma * noise(k) + ((1 - b) - sigma**2).sqrt() * eps
    return x


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("w", [0.0, 2.0])
def test_the_sampler_is_the_peers(make_peer, steps, eta, w):
    theirs = make_peer(mult=(1, 2))
    model, labels = imported(theirs, 8), torch.tensor([0, 1, 2, 3])
    shape = (4, 3, 8, 8)
    start = philox.normal(shape, seed=7, stream=philox.X_T)
    wanted = generalized_steps(
        theirs,
        start,
        labels,
        steps=steps,
        w=w,
        eta=eta,
        noise=lambda k: philox.normal(shape, seed=7, stream=philox.SAMPLER, step=k),
    )
    how = sampling.Sampler(steps=steps, eta=eta, guidance=w, clip=False, spacing="leading")
    got = sampling.denoise(model, labels, how, seed=7, first=0, eps=sampling.network(model))
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()  # a random network's unclipped images reach 500


def test_leading_steps_must_divide_the_timesteps():
    assert sampling.Sampler(steps=50, spacing="leading").timesteps == list(range(980, -1, -20))
    with pytest.raises(UserError, match="leading spacing takes steps that divide 1000"):
        sampling.Sampler(steps=30, spacing="leading")
