"""Whole stages on a GPU that is not there: tensors that say they are on "cuda", and refuse what a GPU would refuse.

They are computed on the CPU. What is checked is where each lies: a number on the host among those on the device, `.numpy()` of one on the
device, a generator of the wrong kind, a host tensor that is indexed by the device's. What a real GPU computes is for benchmarks/gpu.sh.
"""

import copy
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from auditkit import data, sampling
from auditkit.stages import source, train
from auditkit.stages.attack import Case, call_of, cell
from auditkit.stages.sample import images, sample
from auditkit_attacks import curve, module_of

GPU = torch.device("cuda", 0)
ALLOWED = {Tensor.copy_, Tensor.__getitem__, Tensor.index_put_, Tensor.__setitem__}  # these take host tensors too
HOST = {Tensor.numpy, Tensor.__array__}
SETTERS = {Tensor.data.__set__, Tensor.grad.__set__}


class OnGPU(Tensor):
    """A tensor that is computed on the host and says it is on the device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return pretended(func, args, kwargs or {})


def there(tensor):
    """The same numbers, on the device."""
    with torch._C.DisableTorchFunction():
        made = tensor.as_subclass(OnGPU)
    return made


def parameter(tensor, wanted):
    """What nn.Parameter makes of a tensor of another class than torch's."""
    made = tensor.requires_grad_(wanted)
    made._is_param = True
    return made


def here(tensor):
    with torch._C.DisableTorchFunction():
        return tensor.as_subclass(Tensor)


def is_gpu(device):
    return device is not None and not isinstance(device, Tensor) and torch.device(device).type == "cuda"


def moved(func, args, kwargs):
    """Where `to`, `cpu` and `cuda` lead: True, False, or None where they leave a tensor where it is."""
    if func in (Tensor.cpu, Tensor.cuda):
        return func is Tensor.cuda
    if func is not Tensor.to:
        return None
    for given in (*args[1:], *kwargs.values()):
        if isinstance(given, (str, torch.device)):
            return is_gpu(given)
        if isinstance(given, Tensor):
            return isinstance(given, OnGPU)
    return None


def pretended(func, args, kwargs):
    """One call of torch, refused where a GPU would refuse it."""
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    gpu = any(isinstance(x, OnGPU) for x in given)
    if gpu and isinstance(args[0] if args else None, OnGPU):
        if func == Tensor.device.__get__:
            return GPU
        if func in (Tensor.is_cuda.__get__, Tensor.is_cpu.__get__):
            return func == Tensor.is_cuda.__get__
        if func in HOST:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func is Tensor.__deepcopy__:
            made = there(here(args[0].detach()).clone())
            return parameter(made, args[0].requires_grad) if isinstance(args[0], nn.Parameter) else made
    to = moved(func, args, kwargs)
    if func is Tensor.pin_memory:
        return args[0]
    if gpu and to is None and func not in ALLOWED | SETTERS:
        alone = [x for x in given if not isinstance(x, OnGPU) and x.dim()]
        if alone:
            raise RuntimeError(f"Expected all tensors to be on the same device: {func} of cuda:0 and {tuple(alone[0].shape)} on the cpu")
    if func is Tensor.__getitem__ and not isinstance(args[0], OnGPU) and gpu and any(isinstance(x, OnGPU) and x.dim() for x in given):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    kwargs = dict(kwargs)
    asked = kwargs.get("device")
    if asked is not None and func is not Tensor.to:
        gpu, kwargs["device"] = is_gpu(asked), "cpu"
        generator = kwargs.get("generator")
        if generator is not None and gpu:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False
    if to is not None:
        gpu = to
        args, kwargs = ([("cpu" if isinstance(x, (str, torch.device)) else x) for x in args], dict(kwargs))
        kwargs |= {"device": "cpu"} if "device" in kwargs else {}
        func = Tensor.cpu if func is Tensor.cuda else func
    with torch._C.DisableTorchFunction():
        found = func(*args, **kwargs)
    if func == Tensor.grad.__get__ and gpu and found is not None:
        return there(found)
    return tree_map(lambda x: placed(x, given, gpu, to), found)


def placed(found, given, gpu, to):
    if not isinstance(found, Tensor) or (to is None and any(found is x for x in given)):
        return found
    return there(found) if gpu else here(found)


class Pretend(TorchFunctionMode):
    """Calls on plain tensors, and those that make tensors."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return pretended(func, args, kwargs or {})


class Event:
    def record(self):
        pass

    def synchronize(self):
        pass


def module_to(self, *args, kept=nn.Module.to, **kwargs):
    """Weights become parameters on the device; an order in memory is kept as torch does it."""
    if not any(is_gpu(x) for x in (*args, kwargs.get("device")) if isinstance(x, (str, torch.device))):
        return kept(self, *args, **kwargs)
    for module in self.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = parameter(there(here(p.detach()).clone()), p.requires_grad)
        for name, b in module._buffers.items():
            module._buffers[name] = b if b is None else there(b.clone())
    return self


@pytest.fixture
def gpu(monkeypatch):
    """A GPU: what torch is asked about it, and a mode in which its tensors are told apart."""
    for name, value in {
        "is_available": True,
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "synchronize": None,
        "get_device_name": "pretended",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):  # by torch's version
        monkeypatch.setattr(torch.optim.Optimizer, name, lambda self: None, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(nn.Module, "to", module_to)
    for name in ("_launch", "noising", "eps_loss", "sampler_step"):  # kernels need a real one: their definitions stand in
        monkeypatch.setattr(sys.modules[f"auditkit_kernels.{name}"], "why_not", lambda *_, **__: "a GPU that is not there")
    with Pretend():
        yield GPU


def test_what_a_gpu_refuses_is_refused(gpu):
    device, host = torch.zeros(3, device="cuda"), torch.zeros(3)
    assert device.device == gpu
    assert (device + 1).is_cuda
    assert (device + torch.tensor(2.0)).is_cuda
    assert device.cpu().numpy().tolist() == [0, 0, 0]
    assert copy.deepcopy(nn.Linear(3, 3).to("cuda")).weight.is_cuda
    with pytest.raises(RuntimeError, match="same device"):
        device + host
    with pytest.raises(RuntimeError, match="same device"):
        torch.where(device > 0, device, host)
    with pytest.raises(TypeError, match="to numpy"):
        device.numpy()
    with pytest.raises(RuntimeError, match="indices"):
        host[device.long()]
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, generator=torch.Generator(), device="cuda")
    net = nn.Linear(3, 1).to("cuda")
    net(device[None]).sum().backward()
    assert net.weight.grad.is_cuda


def test_sampling(gpu, tiny):
    tiny.net.to("cuda")
    made = sampling.sample(tiny, torch.arange(4), sampling.Sampler(steps=3), seed=0)
    assert not made.is_cuda


SMALL = {"steps": 2, "batch": 4}
METHODS = {
    "safemax": {"target": "latent"},
    "selective-amnesia": {"replay": 2, "fisher_images": 2, "fisher_timesteps": 3, "ema": 0.5},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_there(gpu, method):
    """With the kernels' loss, a penalty and an average; the run is a folder that any machine reads."""
    run = train.unlearn(method, (2,), params={**SMALL, **METHODS[method]})
    assert source.of_run(run, "subject").load().net.device == gpu


@pytest.mark.parametrize("name", ["readout", "relearn", "null-likelihood"])
def test_an_attack_runs_there(gpu, name, monkeypatch):
    """They go from the attacker's loop on the host to the device and back."""
    monkeypatch.setattr(curve, "KEPT", 1)
    case = Case(source.bundled("digits", without=2), source.bundled("digits"), (2,))
    kind = module_of(name).Budget
    few = {**SMALL, "lrs": (5e-4,), "n": 4, "explore": 2, "draws": 1, "levels": 2, "images": 8}
    budget = kind(**{k: v for k, v in few.items() if k in kind.__dataclass_fields__})
    done = cell(**call_of(name, case, data.load("digits"), budget, 0))
    assert done.read_json("curve.json")["failed"] is None


def test_samples_are_stored_from_there(gpu):
    """With the noise that the sampler gives, behind a gate: what an evaluation asks for."""
    who = source.gated(source.bundled("digits"), (2,))
    made = images(sample(who, {2: 2, 3: 2}, noise_for=(2,)))
    assert not any(t.is_cuda for t in made.values())
