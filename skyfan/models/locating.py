"""Finds the files of a job's models: a folder such as the reference system's `S3_object_name` holds one or several."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from skyfan import store
from skyfan.errors import BadInput, ModelError
from skyfan.models import DEMO_MODEL, demo_model_path

MODEL_SUFFIXES = (".safetensors", ".pt2", ".onnx", ".pt", ".pth")


@dataclass(frozen=True)
class NamedModel:
    """One of a job's models; `name` is its file's, without the suffix, by which its columns are called."""

    name: str
    uri: str


def locate_models(uris: Sequence[str]) -> tuple[NamedModel, ...]:
    """The model files that a job names: each URI itself, all model files in it where it is a folder, or the demo.

    Raises:
        ModelError: a folder holds no model.
        BadInput: two models have one name.
    """
    found = [NamedModel(PurePosixPath(uri).stem, uri) for given in uris for uri in model_files(given)]
    for at, model in enumerate(found):
        other = next((one for one in found[:at] if one.name == model.name), None)
        if other is not None:
            raise BadInput(
                f"two models are called {model.name} ({other.uri}, {model.uri}), and so would their columns; rename a "
                "file, or name it once with --model."
            )
    return tuple(found)


def model_files(uri: str) -> list[str]:
    """`uri` itself, or the model files in the folder that it is, by name; see `locate_models`.

    Raises:
        ModelError: the folder holds no models.
    """
    if uri == DEMO_MODEL or uri.endswith(MODEL_SUFFIXES) or (not uri.endswith("/") and store.exists(uri)):
        return [uri]
    found = sorted(entry.uri for entry in store.list(uri) if entry.uri.endswith(MODEL_SUFFIXES))
    if not found:
        raise ModelError(f"{uri} holds no model file ({', '.join(MODEL_SUFFIXES)}); name one with --model.")
    return found


def models_digest(models: Sequence[NamedModel]) -> str:
    """SHA-256 of the models' bytes, in hex, as runs are identified by it; of an ONNX file with its external data.

    Raises:
        LocationError: there is no such file.
    """
    return joint_digest((model.name, _file_digest(model.uri)) for model in models)


def joint_digest(digests: Iterable[tuple[str, str]]) -> str:
    """The digest of the one model; of several one over their names and digests, as their columns have the names."""
    pairs = list(digests)
    if len(pairs) == 1:
        return pairs[0][1]
    listed = "".join(f"{digest} {name}\n" for name, digest in pairs)
    return hashlib.sha256(f"skyfan models 1\n{listed}".encode()).hexdigest()


def _file_digest(uri: str) -> str:
    from skyfan.models.loading import file_digest  # needs safetensors, which a command line that only asks AWS has not

    where = str(demo_model_path()) if uri == DEMO_MODEL else uri
    return file_digest(store.read(where), where)
