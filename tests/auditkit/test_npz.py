"""Broken archives are refused in one line, before anything is unpacked."""

import struct
import zipfile

import numpy as np
import pytest

from auditkit import decoding, npz
from auditkit.errors import UserError

pytestmark = pytest.mark.fast

GOOD = "{'descr':'|u1','fortran_order':False,'shape':(4,1,8,8)}   \n"


def entry(header, body=b"", version=1):
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + body


def broken(path, kind):
    """Archives that zipfile or numpy cannot read, each in another way."""
    entries = {
        "shape": [("images.npy", entry(GOOD.replace("(4,1,8,8)", "(10**12,1,8,8)")))],
        "literal": [("images.npy", entry("{'descr':'|u1'"))],
        "tokens": [("images.npy", entry("{'shape': (4,\n"))],
        "no array": [("x.txt", b"a")],
        "no header": [("images.npy", b"hello")],
        "twice": [("images.npy", entry(GOOD, bytes(256)))] * 2,
        "short": [("images.npy", entry(GOOD, bytes(255)))],
    }.get(kind, [("images.npy", entry(GOOD, bytes(range(256))))])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    raw = bytearray(path.read_bytes())
    central = raw.find(b"PK\x01\x02")
    if kind == "encrypted":
        raw[6] |= 1
        raw[central + 8] |= 1
    elif kind == "compression":
        raw[8] = raw[central + 10] = 97
    elif kind == "corrupt":
        raw[60:63] = bytes(x ^ 255 for x in raw[60:63])
    elif kind == "cut":
        del raw[len(raw) // 2 :]
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    "kind", ["shape", "literal", "tokens", "no array", "no header", "twice", "short", "encrypted", "compression", "corrupt", "cut"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_broken_archive_is_refused_in_one_line(kind, tmp_path):
    with pytest.raises(UserError) as refused:
        npz.arrays(broken(tmp_path / "x.npz", kind))
    assert str(refused.value).startswith(f"{tmp_path / 'x.npz'} ")
    assert "\n" not in str(refused.value)


def test_a_small_archive_of_many_bytes_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((4000, 1, 8, 8), np.uint8))
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="holds 256128 bytes of arrays, at most"):
        npz.arrays(tmp_path / "x.npz")


def test_arrays_come_back_as_they_were_and_only_those_asked_for(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.ones(2))
    assert list(npz.arrays(tmp_path / "x.npz", ["b"])) == ["b"]
    assert npz.arrays(tmp_path / "x.npz")["a"].tolist() == [0, 1, 2]
