"""Folders as data sets: what is read is what lies there, by content alone, and what cannot be read is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from auditkit import data, decoding
from auditkit.errors import UserError
from auditkit.stages import source

pytestmark = pytest.mark.fast


def picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def grey(folder, classes=("cat", "dog"), n=60, size=(9, 12), seed=0):
    """`n` pictures of each class, random but for their seed; returns their pixels by class."""
    rng = np.random.default_rng(seed)
    made = {name: rng.integers(0, 256, (n, *size), dtype=np.uint8) for name in classes}
    for name, images in made.items():
        for i, image in enumerate(images):
            picture(folder / name / f"{i:03}.png", image)
    return made


def test_what_is_read_is_what_lies_there(tmp_path):
    made = grey(tmp_path / "set", classes=("dog", "cat"))
    (tmp_path / "set" / "README.txt").write_text("not a class")
    (tmp_path / "set" / ".hidden").mkdir()
    found = data.load(f"folder:{tmp_path / 'set'}")
    assert found.classes == ("cat", "dog")
    assert found.shape == (1, 9, 12)
    assert torch.equal(found.images[:60, 0], torch.from_numpy(made["cat"]))
    assert torch.equal(found.images[60:, 0], torch.from_numpy(made["dog"]))
    assert found.labels.tolist() == [0] * 60 + [1] * 60
    assert (found.split == data.split_by_pixels(found.images.numpy())).all()
    assert set(found.split) == set(data.SPLITS)
    assert data.load(f"folder:{tmp_path / 'set'}") is found, "read once"


def test_the_name_is_the_content_and_no_path(tmp_path, monkeypatch):
    grey(tmp_path / "a")
    grey(tmp_path / "b" / "c")
    first = data.load(f"folder:{tmp_path / 'a'}")
    monkeypatch.chdir(tmp_path / "b")
    second = data.load("folder:c")
    assert first.name == second.name == f"folder-{first.sha256[:12]}"
    assert first.sha256 == second.sha256
    monkeypatch.chdir(tmp_path)
    assert data.load(second.spec) is second, "from any working directory"
    assert data.load("digits").spec == "digits"
    (tmp_path / "a" / "cat").rename(tmp_path / "a" / "cow")
    (tmp_path / "a").rename(tmp_path / "d")
    renamed = data.load(f"folder:{tmp_path / 'd'}")
    assert renamed.sha256 != first.sha256, "the same pixels under another name are not the same data set"


def test_colour_keeps_its_channels_and_grey_among_it_is_repeated(tmp_path):
    rng = np.random.default_rng(0)
    made = rng.integers(0, 256, (80, 8, 10, 3), dtype=np.uint8)
    for i, image in enumerate(made[:79]):
        picture(
            tmp_path / "set" / "ab"[i % 2] / f"{i:03}.{('png', 'bmp', 'webp')[i % 3]}", image, **({"lossless": True} if i % 3 == 2 else {})
        )
    picture(tmp_path / "set" / "b" / "999.png", made[79, :, :, 0])
    found = data.load(f"folder:{tmp_path / 'set'}")
    assert found.shape == (3, 8, 10)
    assert torch.equal(found.images[0], torch.from_numpy(made[0]).permute(2, 0, 1))
    assert torch.equal(found.images[-1], torch.from_numpy(made[79, :, :, 0]).expand(3, 8, 10))


def spoiled(tmp_path, spoil):
    grey(tmp_path / "set", n=3)
    spoil(tmp_path / "set")
    return f"folder:{tmp_path / 'set'}"


def emptied(folder):
    for path in (folder / "cat").iterdir():
        path.unlink()


def single(folder):
    for path in (folder / "cat").iterdir():
        path.unlink()
    (folder / "cat").rmdir()


def linked(folder):
    (folder / "cat" / "x.png").symlink_to(folder / "dog" / "000.png")


def linked_class(folder):
    (folder / "cow").symlink_to(folder / "dog")


def deep(folder):
    pixels = np.zeros((9, 12), dtype=np.int32) + 40000
    Image.fromarray(pixels.astype(np.uint16)).save(folder / "cat" / "x.png")


def disguised(folder):
    Image.fromarray(np.zeros((9, 12), dtype=np.uint8)).save(folder / "cat" / "x.tiff")
    (folder / "cat" / "x.tiff").rename(folder / "cat" / "x.png")


def cut(folder):
    whole = (folder / "cat" / "000.png").read_bytes()
    (folder / "cat" / "000.png").write_bytes(whole[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: picture(f / "dog" / "x.png", np.zeros((9, 13), np.uint8)), r"dog/x\.png is 13x9 pixels, .*cat/000\.png is 12x9"),
        (lambda f: picture(f / "dog" / "x.png", np.zeros((1, 4097), np.uint8)), r"x\.png is 4097 x 1 pixels, at most 4096 a side"),
        (lambda f: picture(f / "dog" / "x.png", np.zeros((9, 12, 4), np.uint8)), r"x\.png is of mode RGBA, wanted 8-bit grey or colour"),
        (deep, r"x\.png is of mode I;16, wanted 8-bit"),
        (disguised, r"x\.png is no picture that can be read: UnidentifiedImageError"),
        (cut, r"cat/000\.png is no picture that can be read"),
        (lambda f: (f / "dog" / "x.gif").write_bytes(b"GIF89a"), r"x\.gif is no picture \(\.png"),
        (lambda f: (f / "dog" / "more").mkdir(), r"more is no picture"),
        (lambda f: picture(f / "x.png", np.zeros((9, 12), np.uint8)), r"x\.png lies beside the class folders"),
        (emptied, r"cat holds no pictures"),
        (single, r"holds 1 class folders, wanted one subfolder of pictures for each of at least two"),
        (linked, r"x\.png is a symbolic link"),
        (linked_class, r"cow is a symbolic link"),
        (lambda f: (f / "cat").rename(f / "c\x1bt"), r"unprintable name, 'c\\x1bt'"),
        (lambda f: None, r"class 'cat' has 3 pictures and none of them is in the \w+ split: about 50"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_it(tmp_path, spoil, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(spoiled(tmp_path, spoil))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "nowhere", "set/cat/000.png", "x" * 5000, "a\0b"])
def test_no_folder_is_refused(tmp_path, text):
    grey(tmp_path / "set", n=1)
    with pytest.raises(UserError, match="names no folder: give folder:PATH"):
        data.load(f"folder:{text}")


def test_too_many_are_refused_before_they_are_read(tmp_path, monkeypatch):
    grey(tmp_path / "set", n=3)
    monkeypatch.setattr(decoding, "MAX_IMAGES", 5)
    with pytest.raises(UserError, match="holds 6 pictures, at most 5 are read"):
        data.load(f"folder:{tmp_path / 'set'}")
    monkeypatch.setattr(decoding, "MAX_IMAGES", 6)
    monkeypatch.setattr(decoding, "MAX_BYTES", 600)
    with pytest.raises(UserError, match="is one of 6 pictures of 108 bytes"):
        data.load(f"folder:{tmp_path / 'set'}")


@pytest.mark.parametrize("spec", ["folder:x", "folder:/", "folder:x/../../digits", "folder:../digits"])
def test_no_model_is_bundled_for_a_folder(spec):
    assert source.bundled(spec) is None


def test_a_name_close_to_the_prefix_gets_it_suggested():
    with pytest.raises(UserError, match="Did you mean 'folder:PATH'"):
        data.load("folder-PATH")
