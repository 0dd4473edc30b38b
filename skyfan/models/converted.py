"""The form in which a run's ranks load a model that is no AstroMAE, and the engine that was chosen for it.

<output>/model/<sha256 of the source>/engine.json  what was chosen and why; written last, once: the choice
                                      <digest>.xml, .bin  OpenVINO's graph and its weights, where it was converted
                                      <digest>.onnx       an ONNX file with its external data, where onnxruntime runs it
                                      <digest>.npy        the reference outputs: what the model's own engine predicts

All of these are data. `engine.json` holds the SHA-256 of the others, and a run its own, so that none can be replaced.
"""

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from skyfan import store
from skyfan.errors import LocationError, ModelError
from skyfan.layout import OutputSpec
from skyfan.models.inputs import ModelInput, examples
from skyfan.validation import Frozen, first_problem

CHOICE = "engine.json"
EngineName = Literal["openvino", "onnxruntime", "torch"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class EngineChoice(Frozen):
    """Which engine runs a model in this run, why, and what it is given. `rates`: samples a second of the timed trial.

    `micro_batch`: how many samples OpenVINO computes at once. `files`: the suffix of each file and its SHA-256.
    """

    schema_: Literal["skyfan.engine/1"] = Field("skyfan.engine/1", alias="schema")
    engine: EngineName
    reason: str
    source_uri: str
    source_digest: Sha256
    parameters: int = Field(ge=0)
    inputs: tuple[ModelInput, ...] = ()
    example_shapes: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    micro_batch: int = Field(64, ge=1)
    deviation: dict[str, float] | None = None
    rates: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    files: dict[Literal["xml", "bin", "onnx", "npy"], Sha256] = Field(default_factory=dict)

    def examples(self) -> tuple[ModelInput, ...]:
        """The inputs in the sizes of the model's export, for samples to check it on."""
        return examples(self.inputs, self.example_shapes)


@dataclass(frozen=True)
class ConvertedModel:
    """A choice and the bytes of its files by suffix; `reference` are outputs [B, K] on `check_samples`."""

    choice: EngineChoice
    files: Mapping[str, bytes]
    reference: NDArray[np.float32] | None


def is_choice(data: bytes) -> bool:
    """Whether these bytes begin as an `engine.json` does."""
    return data.startswith(b'{"schema":"skyfan.engine/')


def write_choice(folder: str, choice: EngineChoice, files: Mapping[str, bytes]) -> None:
    """Writes the files, then the choice, which another start of the run may have made already: that one is kept."""
    digests = {suffix: hashlib.sha256(data).hexdigest() for suffix, data in files.items()}
    for suffix, data in files.items():
        store.put(_file(folder, digests[suffix], suffix), data)
    whole = choice.model_copy(update={"files": digests})
    with suppress(store.AlreadyExists):
        store.put_new(store.join(folder, CHOICE), whole.model_dump_json(by_alias=True).encode())


def read_converted(uri: str, data: bytes) -> ConvertedModel:
    """The files of the `engine.json` at `uri`, whose bytes are `data`.

    Raises:
        ModelError: it or a file that it names is missing, damaged or was replaced.
    """
    folder = uri.removesuffix(CHOICE).rstrip("/") or "."
    try:
        choice = EngineChoice.model_validate_json(data)
    except ValidationError as error:
        raise ModelError(f"{uri} is damaged: {first_problem(error)}") from error
    files: dict[str, bytes] = {}
    for suffix, digest in choice.files.items():
        try:
            files[suffix] = store.read(_file(folder, digest, suffix))
        except LocationError as error:
            raise ModelError(f"the converted model of {uri} is not whole: {error}") from error
        if hashlib.sha256(files[suffix]).hexdigest() != digest:
            name = f"{digest[:16]}.{suffix}"
            raise ModelError(f"the converted model {name} of {uri} changed; remove {folder} and run again.")
    return ConvertedModel(choice, files, _outputs(files.get("npy"), uri))


def _file(folder: str, digest: str, suffix: str) -> str:
    """Named by its digest, so that two starts that convert at the same time do not mix theirs."""
    return store.join(folder, f"{digest[:16]}.{suffix}")


def outputs_bytes(outputs: NDArray[np.float32]) -> bytes:
    """Reference outputs as an `.npy` file: a header that is plain text and the values."""
    buffer = io.BytesIO()
    np.save(buffer, outputs, allow_pickle=False)
    return buffer.getvalue()


def _outputs(data: bytes | None, uri: str) -> NDArray[np.float32] | None:
    if data is None:
        return None
    try:
        found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ModelError(f"the reference outputs of {uri} cannot be read: {error}.") from error
    return found.astype(np.float32, copy=False)
