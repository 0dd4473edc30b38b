"""Where compiled code is kept: in a folder that only this user writes, by what it was compiled from and with.

What is in it is loaded as machine code. So it is never taken from an output folder, a dataset or a model, and never
from a folder that others could have written.
"""

import os
import platform
import stat
import tempfile
from importlib.metadata import version
from pathlib import Path

from skyfan.errors import BadInput

CACHE_HOME = "XDG_CACHE_HOME"


def private_folder(name: str) -> Path:
    """`<cache>/skyfan/inductor/<name>`, made where it is missing; a temporary folder where there is no home directory.

    Raises `BadInput` where another user could write into it.
    """
    try:
        root = Path(os.environ.get(CACHE_HOME) or Path.home() / ".cache") / "skyfan"
        folder = root / "inductor" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or one that cannot be written, as on AWS Lambda
        return Path(tempfile.mkdtemp(prefix="skyfan-inductor-"))
    for part in (root, folder.parent, folder):
        found = part.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BadInput(
                f"{part}, where compiled code is kept, can be written by other users; run `chmod go-w {part}` as its "
                f"owner, or set {CACHE_HOME} to a folder of your own."
            )
    return folder


def use_inductor_cache(model_digest: str) -> None:
    """Has what `torch.compile` makes of this model kept with its digest, torch's version and this processor's kind."""
    name = f"{model_digest[:32]}-torch-{version('torch')}-{platform.machine()}"
    folder = private_folder(name)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
