"""Finds the one model file in a folder, such as the reference system's `S3_object_name`."""

from skyfan import store
from skyfan.errors import ModelError
from skyfan.models import DEMO_MODEL, demo_model_path
from skyfan.models.loading import file_digest

MODEL_SUFFIXES = (".safetensors", ".pt2", ".onnx", ".pt", ".pth")
_MAX_LISTED = 5


def model_digest(uri: str) -> str:
    """SHA-256 of the model's file, in hex, as runs are identified by it; of an ONNX file with its external data.

    Raises:
        LocationError: there is no such file.
    """
    where = str(demo_model_path()) if uri == DEMO_MODEL else uri
    return file_digest(store.read(where), where)


def locate_model(uri: str | None) -> str:
    """The URI of the model file: `uri` itself, the only model file below it, or the packaged model for None."""
    if uri is None or uri == DEMO_MODEL:
        return DEMO_MODEL
    if uri.endswith(MODEL_SUFFIXES) or (not uri.endswith("/") and store.exists(uri)):
        return uri
    found = [entry.uri for entry in store.list(uri) if entry.uri.endswith(MODEL_SUFFIXES)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{uri} holds no model file ({', '.join(MODEL_SUFFIXES)}); name one with --model.")
    listed = ", ".join(found[:_MAX_LISTED])
    raise ModelError(f"{uri} holds {len(found)} model files ({listed}, …); name one of them with --model.")
