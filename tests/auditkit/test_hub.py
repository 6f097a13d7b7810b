"""Models from the hub, with a stand-in for the network."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from auditkit import hub, models, pipeline, rundir
from auditkit.errors import UserError
from auditkit.stages import source

pytestmark = pytest.mark.fast


def test_a_model_is_fetched_once_and_named_by_its_content(tiny, monkeypatch):
    calls = []

    def download(name, *, local_dir, allow_patterns):
        calls.append((name, allow_patterns))
        models.save(tiny, local_dir)
        (Path(local_dir) / ".cache").mkdir()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    first, again = (source.named("hub:org/some.model", "subject") for _ in range(2))
    beside = ["scheduler_config.json", "scheduler/scheduler_config.json"]
    assert calls == [("org/some.model", ["config.json", "diffusion_pytorch_model.safetensors", *beside, *pipeline.FILES])]
    assert not any(pattern.endswith((".bin", ".py", "*")) for _, patterns in calls for pattern in patterns)
    assert first == again
    assert first.name.startswith("folder-")
    assert first.load().parameters == tiny.parameters
    assert {p.name for p in first.folder.iterdir()} == {models.CONFIG, models.WEIGHTS}
    assert source.named(first.spec, "subject").digest == first.digest, "known by its folder from then on"
    assert rundir.listing() == []


def test_a_pipeline_is_fetched_with_its_parts_and_nothing_else(make_pipeline, monkeypatch):
    folder = make_pipeline()

    def download(name, *, local_dir, allow_patterns):
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)
        (Path(local_dir) / "vae" / "code.py").write_text("raise SystemExit")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = source.named("hub:facebook/DiT", "subject")
    assert {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*") if p.is_file()} == set(pipeline.FILES)
    assert found.digest == models.sha256(folder)
    assert found.load().image_shape == (3, 16, 16)


def test_without_a_network_it_is_one_line_and_nothing_is_written(monkeypatch, runs_folder):
    def offline(name, *, local_dir, **_):
        Path(local_dir).mkdir(parents=True, exist_ok=True)
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError) as error:
        source.named("hub:org/model", "subject")
    wanted = "hub:org/model cannot be downloaded (ConnectionError: no route to host); give a local folder instead"
    assert str(error.value) == wanted
    assert not runs_folder.exists()


def test_a_repository_without_a_model_of_ours_is_refused(monkeypatch, runs_folder):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: name)
    with pytest.raises(UserError, match=r"^hub:org/model: org/model is no model folder: it needs config\.json and"):
        source.named("hub:org/model", "subject")
    assert not runs_folder.exists()


@pytest.mark.parametrize("text", ["hub:", "hub:model", "hub:../x", "hub:a/..", "hub:a/b/c", "hub:a b/c", "hub:/etc"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(UserError, match="wanted hub:ORG/NAME"):
        hub.fetch(text)


def test_a_name_without_the_prefix_never_reaches_the_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(UserError, match="neither a run nor a model folder"):
        source.named("org/model", "subject")
