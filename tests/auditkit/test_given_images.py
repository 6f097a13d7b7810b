"""Images that auditkit did not make: every way in, and every way to be refused in one line."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from auditkit.errors import UserError
from auditkit.stages import given_images

pytestmark = pytest.mark.fast

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def read(path, shape):
    """As `evaluate --images --class 2` of ten classes reads."""
    return given_images.read(path, shape, 2, 10)


def images(shape, n=5):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_every_form_gives_the_same_images_and_digest(shape, tmp_path):
    x = images(shape)
    (tmp_path / "png").mkdir()
    for k, image in enumerate(x.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image[..., 0] if shape == GREY else image).save(tmp_path / "png" / f"{k:03d}.png")
    (tmp_path / "png" / ".DS_Store").write_text("the system's own")
    np.savez(tmp_path / "first.npz", x.numpy())
    np.savez(tmp_path / "last.npz", images=x.permute(0, 2, 3, 1).numpy(), labels=np.full(5, 2))
    save_file({"images": x, "labels": torch.full((5, 1), 2)}, tmp_path / "a.safetensors")
    found = [read(tmp_path / name, shape) for name in ("png", "first.npz", "last.npz", "a.safetensors")]
    assert all(torch.equal(f.images, x) for f in found)
    assert len({f.digest for f in found}) == 1
    assert [f.notes for f in found] == [("1 hidden files were left out (.DS_Store)",), (), (), ()]
    for name in ("png", "first.npz", "a.safetensors"):
        assert torch.equal(given_images.again(x, tmp_path / name), x), "real images go the same way, and come back as they were"
    if shape == GREY:
        np.savez(tmp_path / "flat.npz", x[:, 0].numpy())
        assert torch.equal(read(tmp_path / "flat.npz", shape).images, x)


def bad(tmp_path, name):
    path = tmp_path / name
    if name == "float.npz":
        np.savez(path, np.full((4, 1, 8, 8), np.nan))
    elif name == "size.npz":
        np.savez(path, np.zeros((4, 1, 9, 8), np.uint8))
    elif name == "two.npz":
        np.savez(path, a=np.zeros((4, 1, 8, 8), np.uint8), b=np.zeros((4, 1, 8, 8), np.uint8))
    elif name == "objects.npz":
        np.savez(path, np.array([{"a": 1}], dtype=object))
    elif name == "none.npz":
        np.savez(path, np.zeros((0, 1, 8, 8), np.uint8))
    elif name in ("text.npz", "text.safetensors"):
        path.write_text("hello")
    elif name == "empty":
        path.mkdir()
    elif name in ("big", "broken"):
        path.mkdir()
        if name == "big":
            Image.fromarray(np.zeros((16, 16), np.uint8)).save(path / "a.png")
        else:
            (path / "a.png").write_bytes(b"\x89PNG nonsense")
    elif name == "link":
        path.mkdir()
        (tmp_path / "real.png").write_bytes(b"x")
        (path / "a.png").symlink_to(tmp_path / "real.png")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("float.npz", "images must be uint8 0..255, got float64"),
        ("size.npz", "wanted images (N, 1, 8, 8), got (4, 1, 9, 8): nothing is resized"),
        ("two.npz", "must hold one array of images of three axes or four, it holds a uint8 (4, 1, 8, 8), b uint8 (4, 1, 8, 8)"),
        ("objects.npz", "holds Python objects in 'arr_0.npy': those are never opened"),
        ("none.npz", "--images takes 1 to 1000000 images, got 0"),
        ("text.npz", "is no .npz of plain arrays"),
        ("text.safetensors", "is truncated or no safetensors file"),
        ("empty", "holds no pictures (.png"),
        ("big", "is 16 x 16 pixels, wanted 8 x 8: nothing is resized"),
        ("broken", "is no picture that can be read"),
        ("link", "is a symbolic link"),
        ("missing.npz", "does not exist"),
        ("missing", "is none of them"),
    ],
)
def test_what_cannot_be_judged_is_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        read(bad(tmp_path, name), GREY)


LABELLED = np.array([0, 2, 1, 2, 9])


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_labels_beside_the_images_select_those_that_were_asked_for_the_class(form, tmp_path):
    """guided-diffusion's sample files hold images of all classes, `arr_0`, and their labels, `arr_1`."""
    x, path = images(GREY), tmp_path / f"x.{form}"
    if form == "npz":
        np.savez(path, x.permute(0, 2, 3, 1).numpy(), LABELLED)
    else:
        save_file({"images": x, "labels": torch.from_numpy(LABELLED)}, path)
    found = read(path, GREY)
    assert torch.equal(found.images, x[[1, 3]])
    assert found.notes == (f"2 of 5 images are labelled 2 ({'arr_1' if form == 'npz' else 'labels'}); the others were left out",)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"labels": LABELLED + 1}, "labels goes from 1 to 10, and the data set has classes 0 to 9"),
        (
            {"labels": np.where(LABELLED == 2, 3, LABELLED)},
            "none of its 5 images is labelled 2, the class asked for; its labels are 0, 1, 3, 9",
        ),
        ({"labels": LABELLED[:4]}, "holds labels int64 (4,) beside 5 images"),
        ({"labels": LABELLED.astype(float)}, "holds labels float64 (5,) beside 5 images"),
        ({"labels": np.eye(10, dtype=np.uint8)[LABELLED]}, "holds labels uint8 (5, 10) beside 5 images"),
        ({"scores": LABELLED}, "holds scores int64 (5,) beside 5 images: wanted nothing, or labels"),
        ({"labels": LABELLED, "seed": np.array(3)}, "holds labels int64 (5,), seed int64 () beside 5 images"),
    ],
)
def test_what_a_file_says_beside_its_images_is_never_dropped(beside, message, tmp_path):
    np.savez(tmp_path / "x.npz", images=images(GREY).numpy(), **beside)
    with pytest.raises(UserError) as refused:
        read(tmp_path / "x.npz", GREY)
    assert message in str(refused.value)


def saved(tmp_path, form):
    """One picture that is no plain grey or colour one, under a harmless name."""
    grey = images(GREY, 1)[0, 0].numpy()
    path = tmp_path / "x"
    path.mkdir()
    made = {
        "RGBA": lambda: Image.fromarray(np.dstack([grey] * 4)),
        "LA": lambda: Image.fromarray(np.dstack([grey, grey]), "LA"),
        "I;16": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "CMYK": lambda: Image.fromarray(grey).convert("CMYK"),
        "P, with transparency": lambda: Image.fromarray(grey).convert("P"),
    }[form]()
    options = {"transparency": 0} if "transparency" in form else {}
    made.save(path / ("a.jpg" if form == "CMYK" else "a.png"), **options)
    return path


@pytest.mark.parametrize("form", ["RGBA", "LA", "I;16", "CMYK", "P, with transparency"])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_a_picture_that_would_have_to_be_converted_is_refused_by_its_mode(form, tmp_path):
    with pytest.raises(UserError, match=f"is of mode {re.escape(form)}, wanted 8-bit grey or colour without transparency"):
        read(saved(tmp_path, form), GREY)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "TGA", "PCX", "EPS", "ICO", "PPM"])
def test_other_formats_are_not_opened_whatever_the_file_is_called(form, tmp_path, monkeypatch):
    """Some of Pillow's readers start another program."""
    (tmp_path / "x").mkdir()
    Image.fromarray(images(GREY, 1)[0, 0].numpy()).save(tmp_path / "x" / "a.png", form)
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    with pytest.raises(UserError, match=r"a\.png is no picture that can be read"):
        read(tmp_path / "x", GREY)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.tif", "holds 1 .tif beside 1 pictures"),
        ("labels.txt", "holds 1 .txt beside 1 pictures"),
        ("sub", "holds 1 folder beside 1 pictures"),
    ],
)
def test_a_folder_holds_pictures_alone(name, message, tmp_path):
    Image.fromarray(images(GREY, 1)[0, 0].numpy()).save(tmp_path / "a.png")
    (tmp_path / name).mkdir() if name == "sub" else (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=re.escape(message)):
        read(tmp_path, GREY)


def test_grey_pictures_saved_in_colour_are_grey_and_coloured_ones_are_refused(tmp_path):
    x = images(GREY)
    for k, image in enumerate(x[:, 0].numpy()):
        Image.fromarray(np.dstack([image] * 3)).save(tmp_path / f"{k}.png")
    assert torch.equal(read(tmp_path, GREY).images, x)
    Image.fromarray(images(COLOUR, 1)[0].permute(1, 2, 0).numpy()).save(tmp_path / "z.png")
    with pytest.raises(UserError, match=r"z\.png is in colour, and the data set is grey"):
        read(tmp_path, GREY)


def test_a_picture_of_another_size_is_named(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((8, 80), np.uint8)).save(tmp_path / "grid.png")
    with pytest.raises(UserError, match=r"grid\.png is 80 x 8 pixels, wanted 8 x 8: nothing is resized here; move it out"):
        read(tmp_path, GREY)


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(image) for image in images(GREY, 2)[:, 0].numpy()]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="is animated"):
        read(tmp_path, GREY)
