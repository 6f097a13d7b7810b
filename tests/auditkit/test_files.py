import os

import pytest
import torch
from safetensors.torch import save_file

from auditkit import files
from auditkit.errors import UserError

pytestmark = pytest.mark.fast


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write(path, "first")

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, "second")
    assert path.read_text() == "first"


def test_a_sound_safetensors_file_passes(tmp_path):
    save_file({"a": torch.zeros(3), "b": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    assert files.check_safetensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("low_byte", [0x80, 0x50])
def test_a_header_whose_length_looks_like_a_pickles_first_byte_passes(low_byte, tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    header += b" " * (low_byte + 256 * 0x4B - len(header))
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    assert files.check_safetensors(tmp_path / "w")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"PK\x03\x04 a zip with a pickle in it", "pickle"),
        (b"\x80\x02}q\x00X\x03 a bare pickle", "pickle"),
        ((17 * 2**20).to_bytes(8, "little") + b" " * 100, "truncated or no safetensors"),
        ((4).to_bytes(8, "little") + b"[1]]", "broken safetensors header"),
        ((2).to_bytes(8, "little") + b"{}" + b"more", "truncated or altered"),
        ((30).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,"x"]}}', "truncated or altered"),
        ((29).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,99]}}', "truncated or altered"),
    ],
)
def test_anything_else_is_refused(data, said, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        files.check_safetensors(path)


@pytest.mark.parametrize("text", ["", "[1]", "nan?", "\xff"])
def test_json_must_be_an_object(text, tmp_path):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError):
        files.read_json(tmp_path / "x.json")
