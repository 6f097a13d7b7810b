"""A model folder from the Hugging Face hub: `hub:ORG/NAME`, never without that prefix, its configs and safetensors and nothing else.

It is kept beside the runs and not fetched again; like every foreign folder it is named by its content.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

from auditkit import models, pipeline, rundir, schedule
from auditkit.errors import UserError

PREFIX = "hub:"
FILES = (models.CONFIG, models.WEIGHTS, schedule.CONFIG, pipeline.SCHEDULE)
LAYOUT = "2"  # of what is kept: before, a plain network came without its schedule
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def fetch(text: str) -> Path:
    """The folder of `hub:ORG/NAME`: <runs>/.hub/2/ORG--NAME, downloaded whole or not at all.

    Raises:
        UserError: no such name, no network, or a repository that holds no model of ours.
    """
    name = text.removeprefix(PREFIX)
    if not NAME.fullmatch(name) or ".." in name:
        raise UserError(f"{text!r} is no model on the hub: wanted {PREFIX}ORG/NAME")
    folder = rundir.root() / ".hub" / LAYOUT / name.replace("/", "--")
    if folder.is_dir() and not folder.is_symlink():
        return folder
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory() as elsewhere:  # a failed download leaves no folder of runs behind
        try:
            snapshot_download(name, local_dir=elsewhere, allow_patterns=[*FILES, *pipeline.FILES])
        except Exception as error:  # offline, no such repository, a full disk: the library has an error for each
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{text} cannot be downloaded ({type(error).__name__}: {reason}); give a local folder instead") from error
        try:
            models.load(Path(elsewhere))
        except UserError as error:
            raise UserError(f"{text}: {str(error).replace(f'{elsewhere}{os.sep}', '').replace(elsewhere, name)}") from error
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        beside.mkdir(parents=True, exist_ok=True)
        for file in pipeline.FILES if pipeline.found(Path(elsewhere)) else FILES:
            if (Path(elsewhere) / file).exists():  # all were looked at; a model may come without a schedule
                (beside / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(Path(elsewhere) / file, beside / file)
        beside.rename(folder)
    return folder
