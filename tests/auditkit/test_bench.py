"""Benchmarks are checked for what they compare, never for how long it takes."""

import json
import os
import subprocess
import sys

import pytest
import torch

from auditkit import diffusion, precision, sampling, training
from auditkit.bench import WHAT, judges, kernels, nets, peers, step, timing
from auditkit.bench import sampling as sampling_bench
from auditkit.cli import run
from auditkit.cli_bench import WHAT as NAMED
from auditkit_kernels import philox


@pytest.fixture
def small(tiny, monkeypatch):
    """Four rows of a random network: milliseconds."""
    monkeypatch.setattr(nets, "work", lambda size: nets.Work(tiny, 4, 4, 1e-3))
    return tiny


def test_the_peers_loop_computes_our_loss_and_our_weights(tiny):
    """Their order of work, our draws: the same training."""
    work = nets.Work(tiny, 4, 4, 1e-3)
    mine, theirs = tiny.copy().net, tiny.copy().net
    found = training.fit(mine, work.batches, training.Recipe(steps=3, lr=1e-3, seed=0), loss=training.Loss(diffusion.psi(1.0)))
    wanted = peers.train(theirs, work.batches, 3, 1e-3, psi=work.psi, seed=0)
    assert found == pytest.approx(wanted, rel=1e-4)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=5e-4), "three steps of Adam at 1e-3"


def test_the_peers_sampler_is_ours_without_clipping(tiny):
    """Evenly spaced from 0 instead of from 999: with all 1000 steps there is no difference but the last."""
    x = philox.normal((2, 1, 8, 8), seed=0, stream=philox.X_T)
    labels = torch.tensor([2, 2])
    how = sampling.Sampler(steps=1000, clip=False, rederive=False)
    found = sampling.denoise(tiny, labels, how, seed=0, first=0, eps=sampling.network(tiny))
    wanted = peers.sample(tiny.net, x, labels, tiny.null, steps=1000, w=1.0)
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()))


def test_step_and_sampling_time_every_arm_that_is_right(small):
    for found, names in (
        (step.run("digits", 2), {"auditkit", "peers' loop"}),
        (sampling_bench.run("digits", 2), {"auditkit", "diffusers' DDIM loop", "peers' sampler"}),
    ):
        assert set(found["arms"]) == names
        assert all(arm["n"] == 2 and arm["p20"] <= arm["seconds"] <= arm["p80"] for arm in found["arms"].values())
        assert set(found["times_ours"]) == names - {"auditkit"}


def test_no_time_is_reported_for_what_computes_something_else(small, monkeypatch):
    monkeypatch.setattr(peers, "train", lambda *_, **__: [9.0] * 10)
    found = step.run("digits", 1)
    assert "the loss differs by" in found["wrong"]
    assert "arms" not in found
    monkeypatch.setattr(sampling_bench, "by_diffusers", lambda *_: torch.full((4, 1, 8, 8), torch.nan))
    assert "diffusers' images differs by nan" in sampling_bench.run("digits", 1)["wrong"]


def test_kernels_are_checked_against_their_definitions(monkeypatch):
    monkeypatch.setitem(kernels.BYTES, "cpu", 4 * 3 * 32 * 32 * 4)
    monkeypatch.setattr(kernels, "compiled", lambda function: function)  # its compiler takes a minute here
    found = kernels.run(2)
    assert found["copy_bytes_per_second"] > 0
    for name, op in found["ops"].items():
        assert op["wrong"] is None, name
        assert set(op["arms"]) == {"auditkit", "eager", "torch.compile"}
        assert op["bytes"] == kernels.MOVES[name] * 4 * 4 * 3 * 32 * 32
    monkeypatch.setattr(kernels, "sampler_step", lambda x, *_, **__: x)
    assert kernels.run(1)["ops"]["sampler_step"]["arms"] == {}


def test_neighbours_are_compared_with_scikit_learn():
    found = judges.run(300, 1)
    assert set(found["arms"]) == {"auditkit", "scikit-learn"}
    assert all(arm["p20"] <= arm["seconds"] <= arm["p80"] for arm in found["arms"].values())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_is_that_of_this_process_alone():
    """What was touched before is not counted (getrusage's largest resident set never falls, and a child inherits its parent's): after a
    larger block was given back, a small one raises the peak, and a middling one raises it further."""
    code = """
import mmap
from auditkit.bench.judges import peak

def touched(megabytes):
    with mmap.mmap(-1, megabytes << 20) as block:  # malloc may keep what it frees; this goes back
        block.write(b"x" * (megabytes << 20))
    return peak()

touched(400)
before = peak(reset=True)
small, large = touched(100), touched(300)
assert before < small < large, (before, small, large)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_arm_that_cannot_run_hides_no_other():
    def broken():
        raise RuntimeError("no compiler")

    rows = timing.alternate({"a": broken, "b": lambda: None}, repeats=3)
    assert rows["a"] == {"failed": "not measured: RuntimeError: no compiler"}
    assert rows["b"]["n"] == 3
    assert timing.ratios(rows, "b") == {}
    assert timing.ratios(rows, "a") == {}


def test_the_command_prints_one_record(small, capsys, tmp_path):
    assert run(["bench", "step", "--repeats", "1", "--out", str(tmp_path / "bench.json")]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["results"][0]["what"] == "step"
    assert {"commit", "machine", "processor", "versions"} <= set(record)
    assert "peers' loop" in capsys.readouterr().err
    assert run(["bench", "steps"]) == 2
    assert run(["bench", "step", "--out", str(tmp_path / "no" / "bench.json")]) == 2
    assert run(["bench", "step", "--out", str(tmp_path)]) == 2, "a folder, before anything is timed"
    assert NAMED == WHAT


def test_a_large_network_runs_in_half_precision_and_learns_the_same(tiny, monkeypatch):
    """bfloat16 with channels last, where the hardware multiplies it: the loss stays within a few percent of float32's."""
    work = nets.Work(tiny, 8, 8, 1e-3)
    recipe = training.Recipe(steps=5, lr=1e-3, seed=0)
    wanted = training.fit(tiny.copy().net, work.batches, recipe)
    monkeypatch.setattr(precision, "half", lambda net: True)
    model = tiny.copy()
    found = training.fit(model.net, work.batches, recipe)
    assert found != wanted, "the precision was changed"
    assert found == pytest.approx(wanted, rel=0.03)
    assert all(p.dtype == torch.float32 for p in model.net.parameters()), "master weights"
    made = sampling.sample(model, torch.tensor([1, 2]), sampling.Sampler(steps=2), seed=0)
    assert made.dtype == torch.uint8


def test_float32_is_float32_but_for_others_loops():
    """On a GPU; the flags are there without one."""
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    seen = []
    timing.as_torch_comes(lambda: seen.append((cudnn.allow_tf32, cudnn.deterministic)))()
    assert seen == [(True, False)]
    assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)


def test_the_plain_arm_is_never_recorded(small, monkeypatch):
    """AUDITKIT_CAPTURE=1 in the shell made both arms the recorded one."""
    seen = []
    monkeypatch.setenv("AUDITKIT_CAPTURE", "1")
    monkeypatch.setattr(training, "fit", lambda *_, **__: (seen.append(os.environ["AUDITKIT_CAPTURE"]), [1.0])[1])
    monkeypatch.setattr(peers, "train", lambda *_, **__: [1.0])
    step.run("digits", 1)
    assert seen
    assert set(seen) == {""}


def test_small_networks_keep_float32(base):
    assert not precision.half(base.net)


def test_the_precision_is_named_and_the_weights_are_counted_once(tiny, monkeypatch):
    net = tiny.copy().net
    assert precision.name(net) == "float32"
    monkeypatch.setattr(net, "parameters", None)
    assert precision.name(net) == "float32"
    large = tiny.copy().net
    monkeypatch.setattr(precision, "LARGE", 1)
    assert precision.half(large) == bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
