"""Tensors of an ONNX file that lie in other files: only in files beside it, inside its folder."""

from pathlib import Path, PurePosixPath

from skyfan import store
from skyfan.errors import LocationError
from skyfan.models.programs.fields import refuse, shown


def external_uri(uri: str, location: str) -> str:
    """The file `location` beside the model at `uri`; refused if it is not inside the model's folder.

    Links are followed before that is decided.
    """
    parts = PurePosixPath(location).parts
    plain = location.isprintable() and "\\" not in location and ":" not in location and len(location) <= 255
    if not parts or not plain or location.startswith("/") or ".." in parts:
        refuse(f"keeps tensors in {shown(location)}, which is not a file beside it; save it with its data in one file")
    folder = uri.rpartition("/")[0] or ("." if "://" not in uri else "")
    path = store.local_path(uri)
    if path is not None:
        resolved = Path(path.parent, location).resolve()
        if not resolved.is_relative_to(path.parent.resolve()) or not resolved.is_file():
            refuse(f"keeps tensors in {shown(location)}, which is no file inside its folder")
        return str(resolved)
    return store.join(folder, location)


def read_external(uri: str, location: str) -> bytes:
    """The bytes of the file `location` beside the model at `uri`."""
    where = external_uri(uri, location)
    try:
        return store.read(where)
    except LocationError as error:
        refuse(f"keeps tensors in {shown(location)}, which cannot be read: {error}")
