"""Models as safetensors files: checkpoints converted, trained models saved, with where they are from."""

import hashlib
from collections.abc import Mapping

from skyfan import store
from skyfan._version import __version__
from skyfan.errors import ModelError
from skyfan.models.astromae import AstroMAE
from skyfan.models.checkpoint import SOURCE_DIGEST_KEY, SOURCE_KEY, write_safetensors
from skyfan.models.loading import LoadedModel, astromae_module, checked_config, is_program_file, read_checkpoint
from skyfan.models.reference_outputs import reference_outputs


def convert_checkpoint(uri: str, heads: int | None = None) -> bytes:
    """The safetensors bytes of an AstroMAE checkpoint; its metadata names the source's format and SHA-256.

    `heads` is the number of attention heads where the file does not tell it.

    Raises:
        ModelError: it is an exported program, or no AstroMAE checkpoint.
        LocationError: it cannot be read.
    """
    data = store.read(uri)
    if is_program_file(data, uri):
        raise ModelError(f"{uri} is an exported program, which runs as it is and cannot be converted.")
    checkpoint = read_checkpoint(data, uri)
    config, _ = checked_config(checkpoint, uri, {"num_heads": heads} if heads else None)
    extra = {
        "skyfan_version": __version__,
        SOURCE_KEY: checkpoint.root or checkpoint.format,
        SOURCE_DIGEST_KEY: checkpoint.metadata.get(SOURCE_DIGEST_KEY, hashlib.sha256(data).hexdigest()),
    }
    return model_bytes(astromae_module(config, checkpoint.state), {**checkpoint.metadata, **extra})


def portable_bytes(model: LoadedModel) -> bytes:
    """A loaded AstroMAE as a safetensors file that holds reference outputs, so that it is used without torch.

    Its metadata has the SHA-256 of the file that it was loaded from.

    Raises:
        ModelError: the model is no AstroMAE.
    """
    if not isinstance(model.module, AstroMAE):
        raise ModelError(f"{model.uri} is an exported program, which runs as it is and cannot be converted.")
    return model_bytes(model.module, {**model.metadata, SOURCE_KEY: model.format, SOURCE_DIGEST_KEY: model.digest})


def model_bytes(model: AstroMAE, extra: Mapping[str, str]) -> bytes:
    """The safetensors bytes of a model, with the reference outputs by which engines are checked."""
    return write_safetensors(model.state_dict(), model.config, extra, reference_outputs(model))
