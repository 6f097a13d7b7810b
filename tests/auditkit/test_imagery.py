"""Images that auditkit did not make: every way in, and every way to be refused in one line."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from auditkit.errors import UserError
from auditkit.stages import imagery

pytestmark = pytest.mark.fast

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def images(shape, n=5):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_every_form_gives_the_same_images_and_digest(shape, tmp_path):
    x = images(shape)
    (tmp_path / "png").mkdir()
    for k, image in enumerate(x.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image[..., 0] if shape == GREY else image).save(tmp_path / "png" / f"{k:03d}.png")
    (tmp_path / "png" / "notes.txt").write_text("not a picture")
    np.savez(tmp_path / "first.npz", x.numpy())
    np.savez(tmp_path / "last.npz", images=x.permute(0, 2, 3, 1).numpy(), labels=np.zeros(5))
    save_file({"images": x, "noise": x[:2].clone()}, tmp_path / "a.safetensors")
    found = [imagery.read(tmp_path / name, shape) for name in ("png", "first.npz", "last.npz", "a.safetensors")]
    assert all(torch.equal(f[0], x) for f in found)
    assert len({f[1] for f in found}) == 1
    if shape == GREY:
        np.savez(tmp_path / "flat.npz", x[:, 0].numpy())
        assert torch.equal(imagery.read(tmp_path / "flat.npz", shape)[0], x)


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
        ("two.npz", 'must hold one array of images, called "images"; it has a, b'),
        ("objects.npz", "is no .npz of plain arrays"),
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
        imagery.read(bad(tmp_path, name), GREY)


def test_content_stands_for_files_wherever_they_lie(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "folder").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "folder" / "a.safetensors")
    one, other = imagery.content(str(tmp_path / "a.safetensors")), imagery.content(str(tmp_path / "folder"))
    assert one == other
    assert imagery.content(None) is None
    with pytest.raises(UserError, match="does not exist"):
        imagery.content(str(tmp_path / "nothing"))
