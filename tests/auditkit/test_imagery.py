"""What stands for a file of weights in a request."""

import pytest
import torch
from safetensors.torch import save_file

from auditkit.errors import UserError
from auditkit.stages import imagery

pytestmark = pytest.mark.fast


def test_content_stands_for_files_wherever_they_lie(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "folder").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "folder" / "a.safetensors")
    one, other = imagery.content(str(tmp_path / "a.safetensors")), imagery.content(str(tmp_path / "folder"))
    assert one == other
    assert imagery.content(None) is None
    with pytest.raises(UserError, match="does not exist"):
        imagery.content(str(tmp_path / "nothing"))
