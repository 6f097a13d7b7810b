"""Images in batches into one file: the library's own bytes, whatever was killed on the way."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save

from auditkit import rundir, sampling, stages, training
from auditkit.stack import Stack
from auditkit.stages import source

LAYOUT = {"class/7": (5, 3, 4, 4), "class/10": (2, 3, 4, 4), "noise/7/eps=-w*null": (3, 3, 4, 4), "\u00e9": (1, 1, 1, 1)}


@pytest.fixture
def images():
    drawn = torch.Generator().manual_seed(0)
    return {name: torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn) for name, shape in LAYOUT.items()}


def test_its_bytes_are_the_librarys(images, tmp_path):
    stack = Stack(tmp_path / "part", LAYOUT)
    assert not stack.resumed
    for name, found in images.items():
        stack.put(name, 1, found[1:])
        stack.put(name, 0, found[:1])
    assert torch.equal(torch.from_numpy(stack.first("class/7", 2)), images["class/7"][:2])
    stack.finish(tmp_path / "images.safetensors")
    assert (tmp_path / "images.safetensors").read_bytes() == save(images)
    assert not (tmp_path / "part").exists()


def test_what_was_put_before_is_there_again_and_another_layout_starts_over(images, tmp_path):
    first = Stack(tmp_path / "part", LAYOUT)
    first.put("class/7", 0, images["class/7"])
    first.flush()
    again = Stack(tmp_path / "part", LAYOUT)
    assert again.resumed
    assert torch.equal(torch.from_numpy(again.first("class/7", 5)), images["class/7"])
    assert not Stack(tmp_path / "part", {**LAYOUT, "class/7": (6, 3, 4, 4)}).resumed
    (tmp_path / "part").write_bytes(b"cut")
    assert not Stack(tmp_path / "part", LAYOUT).resumed


def test_a_sampling_job_goes_on_where_it_was_killed(monkeypatch):
    """The same bytes as of a job that was left alone; a lost part file starts over."""
    base, counts = source.bundled("digits"), {2: 300, 5: 220}
    whole = stages.sample(base, counts, sampler=sampling.Sampler(steps=2), noise_for=(2,))
    digest, drawn, real = whole.digest, [], sampling.begin_several
    rundir.remove(whole.name)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)  # due at every look at the clock, however coarse

    def counted(network, pieces, how):
        drawn.append(sum(n for *_, n in pieces))
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return real(network, pieces, how)

    monkeypatch.setattr(sampling, "begin_several", counted)
    with pytest.raises(KeyboardInterrupt):
        stages.sample(base, counts, sampler=sampling.Sampler(steps=2), noise_for=(2,))
    assert stages.sample(base, counts, sampler=sampling.Sampler(steps=2), noise_for=(2,)).digest == digest
    assert drawn == [250, 250, 20, 20], "two batches of 250 were kept"
    again = rundir.find(whole.name)
    assert load_file(again.file("images.safetensors"))["class/5"].shape == (220, 1, 8, 8)
    assert not (again.path / rundir.PART).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Nine times as many images after the first 30 MB take less than those 30 MB more. The pages of the file may stay in memory as the
    system likes; what a process owns (VmData: private memory, counted exactly where resident sets are estimates) stays as it was."""
    code = """
import sys
import torch
from pathlib import Path
from auditkit.stack import Stack

def own():
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))

def put(numbers):
    for first in numbers:
        stack.put("class/2", first, torch.full((1000, 3, 32, 32), first % 251, dtype=torch.uint8))
    return own()

stack = Stack(Path(sys.argv[1]), {"class/2": (100_000, 3, 32, 32)})
tenth = put(range(0, 10_000, 1000))
whole = put(range(10_000, 100_000, 1000))
assert whole - tenth < 10_000 * 3 * 32 * 32, whole - tenth
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "part")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
