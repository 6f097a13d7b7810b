"""torchvision's data sets, without a network: torchvision's own layouts with a few images, and downloads that fail."""

import hashlib
import os
import pickle
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as published
from torchvision.datasets import utils

from auditkit import cli, data, pack_data, torchvision_data
from auditkit.errors import UserError

N = 300


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder of downloads, and no network."""

    def refuse(url, *_, **__):
        raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(utils, "_urlretrieve", refuse)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setenv("AUDITKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data, "PINNED", {})
    monkeypatch.setattr(torchvision_data, "PINNED", {})
    torchvision_data.load.cache_clear()
    yield tmp_path / "data"
    torchvision_data.load.cache_clear()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def made(shape, classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (N, *shape), dtype=np.uint8), np.arange(N) % classes


def write_cifar(root, monkeypatch, kind, classes):
    """A folder like the published one with its sums in torchvision's table; returns what its parts hold."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    parts = []
    for files in ("train_list", "test_list"):
        table = []
        for name, _ in getattr(kind, files):
            images, labels = made((3, 32, 32), len(classes), seed=len(parts))
            key = "labels" if kind is published.CIFAR10 else "fine_labels"
            (folder / name).write_bytes(pickle.dumps({"data": images.reshape(N, -1), key: labels.tolist()}))
            table.append([name, md5(folder / name)])
            parts.append((images, labels))
        monkeypatch.setattr(kind, files, table)
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: list(classes)}))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def write_mnist(root, kind):
    folder = root / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    parts = []
    for seed, part in enumerate(("train", "t10k")):
        images, labels = made((28, 28), 10, seed)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + np.array(images.shape, ">i4").tobytes() + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + np.array(N, ">i4").tobytes() + labels.astype(np.uint8).tobytes()
        )
        parts.append((images[:, None], labels))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def write_stl10(root, monkeypatch):
    kind, parts = published.STL10, []
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    for seed, (files, part) in enumerate((("train_list", "train"), ("test_list", "test"))):
        images, labels = made((3, 96, 96), 10, seed)
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())  # column by column, as its page says
        (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
        monkeypatch.setattr(kind, files, [[f"{part}_{c}.bin", md5(folder / f"{part}_{c}.bin")] for c in "Xy"])
        parts.append((images, labels))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


WRITE = {
    "cifar10": lambda root, patch: write_cifar(root, patch, published.CIFAR10, [f"c{k}" for k in range(10)]),
    "cifar100": lambda root, patch: write_cifar(root, patch, published.CIFAR100, ["apple", "bear", "cup"]),
    "stl10": write_stl10,
    "mnist": lambda root, _: write_mnist(root, published.MNIST),
    "fashion-mnist": lambda root, _: write_mnist(root, published.FashionMNIST),
}


@pytest.mark.parametrize("name", torchvision_data.SETS)
def test_all_labelled_images_of_both_parts_are_read(name, place, monkeypatch):
    images, labels = WRITE[name](place, monkeypatch)
    found = data.load(name)
    assert found.name == found.spec == name
    assert found.images.dtype == torch.uint8
    assert found.shape == images.shape[1:]
    assert len(found.classes) == len(set(labels.tolist()))
    expected = data.ordered(name, images, labels, found.classes)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert data.load(name) is found, "read once"


def test_a_pack_of_the_same_images_is_the_same_data_set(place, monkeypatch, tmp_path):
    images, labels = WRITE["cifar10"](place, monkeypatch)
    found = data.load("cifar10")
    shuffled = np.random.default_rng(0).permutation(len(images))
    np.savez(tmp_path / "p.npz", images=images[shuffled], labels=labels[shuffled], classes=np.array(found.classes))
    monkeypatch.setattr(data, "PINNED", {"cifar10": found.sha256})
    packed = pack_data.load(str(tmp_path / "p.npz"))
    assert (packed.name, packed.sha256) == ("cifar10", found.sha256)
    assert torch.equal(packed.images, found.images)
    assert packed.spec == f"pack:{tmp_path / 'p.npz'}"


def test_other_images_under_a_pinned_name_are_refused(place, monkeypatch):
    WRITE["cifar10"](place, monkeypatch)
    monkeypatch.setattr(torchvision_data, "PINNED", {"cifar10": "0" * 64})
    with pytest.raises(UserError, match="holds other images than the published cifar10: its digest is"):
        data.load("cifar10")


@pytest.mark.parametrize("name", torchvision_data.SETS)
def test_offline_is_one_line_and_leaves_nothing(name, place, capsys, runs_folder):
    assert cli.run(["pretrain", "--data", name]) == 2
    said = capsys.readouterr()
    line = " ".join(said.err.split())
    known = torchvision_data.SETS[name]
    assert f"--data {name} needs a download of {known.megabytes} MB into {place}, which failed:" in line
    assert "Temporary failure in name resolution" in line
    assert f"put torchvision's folder {known.folder} there" in line
    assert said.out == ""
    assert not place.exists()
    assert not runs_folder.exists()


class Opened:
    """Would a pickle run when it is opened, this would be seen."""

    def __reduce__(self):
        return os.mkdir, ("opened",)


def test_nothing_is_unpickled_whose_sum_is_wrong(place, monkeypatch, tmp_path):
    WRITE["cifar10"](place, monkeypatch)
    (place / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Opened()))
    with pytest.raises(UserError, match=r"not those of cifar10 \(Dataset not found or corrupted.*delete it, and run again"):
        data.load("cifar10")
    assert not (tmp_path / "opened").exists()


def test_links_old_pickles_and_cut_files_are_refused(place, tmp_path):
    write_mnist(place, published.MNIST)
    raw = place / "MNIST" / "raw"
    labels = raw / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:100])
    with pytest.raises(UserError, match="not those of mnist"):
        data.load("mnist")
    labels.rename(tmp_path / "labels")
    labels.symlink_to(tmp_path / "labels")
    with pytest.raises(UserError, match="is a symbolic link"):
        data.load("mnist")
    labels.unlink()
    labels.write_bytes(whole)
    (place / "MNIST" / "processed").mkdir()
    with pytest.raises(UserError, match="pickles of an old torchvision"):
        data.load("mnist")
    (place / "MNIST" / "processed").rmdir()
    assert len(data.load("mnist").images) == 2 * N


def test_what_was_fetched_is_moved_in_when_it_is_whole(place, monkeypatch, tmp_path):
    monkeypatch.setattr(published.CIFAR10, "url", "https://nowhere.invalid/cifar.tar.gz")
    images, _ = write_cifar(tmp_path / "server", monkeypatch, published.CIFAR10, [f"c{k}" for k in range(10)])
    archive = tmp_path / "server.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "server" / "cifar-10-batches-py", "cifar-10-batches-py")
    broken = archive.read_bytes()[:-100]
    monkeypatch.setattr(published.CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(utils, "_urlretrieve", lambda url, to, **_: Path(to).write_bytes(broken))
    with pytest.raises(UserError, match="which failed: File not found or corrupted"):
        data.load("cifar10")
    assert not place.exists()
    monkeypatch.setattr(utils, "_urlretrieve", lambda url, to, **_: Path(to).write_bytes(archive.read_bytes()))
    assert len(data.load("cifar10").images) == len(images)
    assert [p.name for p in place.iterdir()] == ["cifar-10-batches-py"], "neither the archive nor a temporary folder stays"


def test_the_variable_is_known_and_the_default_is_the_cache(monkeypatch, tmp_path):
    assert torchvision_data.root() == tmp_path / "data"
    monkeypatch.delenv("AUDITKIT_DATA")
    assert torchvision_data.root() == (Path.home() / ".cache" / "auditkit" / "data").resolve()
