"""Packs of arrays as data sets: the same images are the same data set in any order and any layout, and what is wrong is named."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from auditkit import data, decoding, pack_data
from auditkit.errors import UserError
from auditkit.stages import source

pytestmark = pytest.mark.fast

PACKS = os.environ.get("CIFAR10_PACKS", "")


def rows(dataset):
    return sorted(zip((i.numpy().tobytes() for i in dataset.images), dataset.labels.tolist(), dataset.split, strict=True))


def test_the_order_of_the_rows_is_no_part_of_a_data_set(pack, tmp_path):
    images, labels = pack(tmp_path / "a.npz")
    pack(tmp_path / "b.npz", order=np.random.default_rng(1).permutation(len(labels)))
    first, second = (data.load(f"pack:{tmp_path / name}") for name in ("a.npz", "b.npz"))
    assert first.sha256 == second.sha256
    assert first.name == second.name == f"pack-{first.sha256[:12]}"
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.split == second.split).all()
    assert rows(first) == sorted(zip((i.tobytes() for i in images), labels.tolist(), data.split_by_pixels(images), strict=True))
    assert data.load(first.spec) is first, "read once"
    assert first.images.dtype == torch.uint8


def test_equal_pixels_with_two_labels_have_one_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (150, 1, 4, 4), dtype=np.uint8)
    twice, labels = np.concatenate([images, images]), np.repeat([0, 1], 150)
    first = data.ordered("x", twice, labels, ("a", "b"))
    second = data.ordered("x", twice[::-1], labels[::-1], ("a", "b"))
    assert first.sha256 == second.sha256
    assert data.ordered("x", twice, labels, ("b", "a")).sha256 != first.sha256, "the same pixels under other names"
    assert data.ordered("x", twice, 1 - labels, ("a", "b")).sha256 == first.sha256, "each image has both labels"
    assert data.ordered("x", twice, np.tile([0, 1], 150), ("a", "b")).sha256 != first.sha256


def test_layouts_of_the_axes_are_the_same_set(pack, tmp_path):
    images, labels = pack(tmp_path / "a.npz", named=False)
    np.savez(tmp_path / "b.npz", images=images.transpose(0, 2, 3, 1), labels=labels.astype(np.uint8))
    assert data.load(f"pack:{tmp_path / 'a.npz'}").sha256 == data.load(f"pack:{tmp_path / 'b.npz'}").sha256
    grey, labels = pack(tmp_path / "c.npz", shape=(1, 9, 12), named=False)
    np.savez_compressed(tmp_path / "d.npz", images=grey[:, 0], labels=labels)
    found = data.load(f"pack:{tmp_path / 'd.npz'}")
    assert found.shape == (1, 9, 12)
    assert found.classes == ("0", "1", "2")
    assert found.sha256 == data.load(f"pack:{tmp_path / 'c.npz'}").sha256


def encoded(path, images, labels, classes, **options):
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "WEBP", lossless=True, **options)
        files.append(buffer.getvalue())
    offset = np.cumsum([0, *map(len, files)])
    blob = np.frombuffer(b"".join(files), dtype=np.uint8)
    np.savez(path, blob=blob, offset=offset, label=labels.astype(np.uint8), classes=np.array(classes, dtype="S"))


def test_encoded_packs_one_after_another_are_the_plain_set(pack, tmp_path):
    images, labels = pack(tmp_path / "a.npz")
    names = [f"colour-{k}" for k in range(3)]
    encoded(tmp_path / "b.npz", images[::2], labels[::2], names)
    encoded(tmp_path / "c.npz", images[1::2], labels[1::2], names)
    found = data.load(f"pack:{tmp_path / 'b.npz'},{tmp_path / 'c.npz'}")
    assert found.sha256 == data.load(f"pack:{tmp_path / 'a.npz'}").sha256
    assert found.spec == f"pack:{tmp_path / 'b.npz'},{tmp_path / 'c.npz'}"
    encoded(tmp_path / "d.npz", images[1::2], labels[1::2], names[::-1])
    with pytest.raises(UserError, match=r"d\.npz holds images \(3, 16, 16\) and classes colour-2, .*b\.npz"):
        data.load(f"pack:{tmp_path / 'b.npz'},{tmp_path / 'd.npz'}")


def changed(**arrays):
    """A pack with some arrays replaced; None leaves one out."""

    def spoil(path, images, labels):
        whole = {"images": images, "labels": labels, "classes": np.array(["a", "b", "c"]), **arrays}
        np.savez(path, **{name: a for name, a in whole.items() if a is not None})

    return spoil


def linked(path, images, labels):
    path.rename(path.with_name("other.npz"))
    path.symlink_to(path.with_name("other.npz"))


def cut(path, images, labels):
    path.write_bytes(path.read_bytes()[:3000])


def bent(path, images, labels):
    whole = bytearray(path.read_bytes())
    whole[5000] ^= 255
    path.write_bytes(whole)


def header(shape):
    """A pack whose images claim to be of another shape than they are."""

    def spoil(path, images, labels):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", buffer.getvalue() + bytes(100))

    return spoil


def blob(**arrays):
    whole = {"blob": np.zeros(9, np.uint8), "offset": np.array([0, 4, 9]), "label": np.array([0, 1]), "classes": np.array(["a", "b"])}
    return lambda path, images, labels: np.savez(path, **{**whole, **arrays})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (linked, "is a symbolic link"),
        (cut, r"is no \.npz of plain arrays: File is not a zip file"),
        (bent, r"is no \.npz of plain arrays: Bad CRC-32"),
        (header((10**12, 3, 16, 16)), r"images\.npy is not as long as its header says"),
        (lambda p, i, y: p.write_bytes(b""), r"is no \.npz of plain arrays"),
        (changed(labels=None), "has no labels: a pack holds"),
        (changed(images=None), "has no images: a pack holds"),
        (changed(labels=np.array([{}] * 240, dtype=object)), "holds Python objects in 'labels.npy': those are never opened"),
        (changed(labels=np.repeat([0, 1, 3], 80)), "labels must lie in 0 to 2, got 0 to 3"),
        (changed(labels=np.repeat([0, -1, 2], 80)), "labels must lie in 0 to 2, got -1 to 2"),
        (changed(labels=np.zeros(240)), r"a whole number for each of 240 images as label, got float64 \(240,\)"),
        (changed(labels=np.zeros(239, int)), r"each of 240 images as label, got int64 \(239,\)"),
        (changed(images=np.zeros((240, 3, 4, 4))), "images must be uint8 0..255, got float64"),
        (changed(images=np.zeros((240, 4, 4, 4), np.uint8)), r"with 1 or 3 channels, got \(240, 4, 4, 4\)"),
        (changed(images=np.zeros((0, 3, 4, 4), np.uint8), labels=np.zeros(0, int)), "holds 0 images, 1 to 1000000 are read"),
        (changed(classes=np.array(["a", "a", "c"])), "must be different printable names"),
        (changed(classes=np.array(["a", "b\x1b", "c"])), "must be different printable names"),
        (changed(classes=np.arange(3)), r"classes must be 2 to 10000 names \(K,\), got int64"),
        (changed(labels=np.zeros(240, int)), "class 'b' has 0 pictures and none of them is in the model split"),
        (blob(), "picture 0 is no picture that can be read: UnidentifiedImageError"),
        (blob(offset=np.array([0, 4, 10])), "offset must rise from 0 to the 9 bytes of blob, it goes from 0 to 10"),
        (blob(offset=np.array([0, 4, 4])), "offset must rise"),
        (blob(offset=np.array([-4, 4, 9])), "offset must rise"),
        (blob(offset=np.array([0.0, 4, 9])), "got uint8 and float64"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_it(pack, tmp_path, spoil, message):
    images, labels = pack(tmp_path / "set.npz")
    spoil(tmp_path / "set.npz", images, labels)
    with pytest.raises(UserError, match=message) as caught:
        data.load(f"pack:{tmp_path / 'set.npz'}")
    assert "\n" not in str(caught.value)
    assert "set.npz" in str(caught.value) or "class 'b'" in str(caught.value)


@pytest.mark.parametrize("text", ["", " , ", "a\0b", "nowhere.npz"])
def test_no_file_is_refused(text):
    with pytest.raises(UserError, match=r"names no file: give pack:PATH|nowhere\.npz does not exist"):
        data.load(f"pack:{text}")


@pytest.mark.parametrize("spec", ["pack:", "pack:x.npz", "pack:../digits", "pack:x/../../digits", "cifar10"])
def test_no_model_is_bundled_for_it(spec):
    assert source.bundled(spec) is None


def test_too_much_is_refused_before_it_is_read(pack, tmp_path, monkeypatch):
    pack(tmp_path / "set.npz")
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(UserError, match=r"holds \d+ bytes of arrays, at most"):
        pack_data.read(tmp_path / "set.npz")


@pytest.mark.skipif(not PACKS, reason="CIFAR10_PACKS does not name a folder with cifar10_test.webp.npz and its five training packs")
def test_the_packs_of_cifar10_are_cifar10():
    names = ["cifar10_test", *(f"cifar10_train_{i}of5" for i in (3, 1, 4, 0, 2))]
    found = data.load("pack:" + ",".join(str(Path(PACKS) / f"{name}.webp.npz") for name in names))
    assert found.name == "cifar10"
    assert found.sha256 == data.PINNED["cifar10"]
    assert torch.bincount(found.labels).tolist() == [6000] * 10
    # The mean and standard deviation of the 50,000 training images are .4914 .4822 .4465 and .2470 .2435 .2616 wherever they are quoted.
    assert np.abs(found.images.numpy().mean((0, 2, 3)) / 255 - [0.4914, 0.4822, 0.4465]).max() < 0.002
