"""Before the fan-out: read the model and try it, and leave it where ranks load it."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.dtypes import numpy_dtype
from skyfan.engines import Engine
from skyfan.errors import DatasetError, LocationError, ModelError
from skyfan.formats.dataset import Advance, first_layout
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.models.loading import load_model
from skyfan.models.locating import NamedModel, joint_digest, locate_models
from skyfan.runs.folder import RunFolder
from skyfan.stages.known_redshifts import require_real_redshifts
from skyfan.stages.messages import ConvertRequest, ModelFile, PreparedModel, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.preprocess import Preprocessing
from skyfan.stages.result_columns import result_columns, row_bytes

RATE_SAMPLES = 64
TORCH = "torch"


def prepare(request: PrepareRequest, models: ModelCache, advance: Advance | None = None) -> PreparedModel:
    """Reads the model and tries it, so that what does not fit is reported before anything is written.

    `advance` shows how many of the dataset's files are listed.

    Raises:
        ModelError: the model cannot be run, or lacks an output that the job names.
        DatasetError: the dataset lacks a column that the model takes or that is to be kept, its shape does not fit, or
            its redshifts are complex.
    """
    job = request.job
    model = _joined([_found(one, models) for one in locate_models(job.models)])
    layout = first_layout(job.dataset, job, advance)
    require_real_redshifts([layout])
    engine = models.engine(model.uri, model.digest, job.options, layout, model.parts)
    bound, width = _try_out(engine, layout)
    Preprocessing(job).check(layout, [spec.name for spec in bound])
    columns = result_columns(job, layout, [spec.name for spec in bound], engine, width)
    rate = _rate(engine, bound, job.batch_size) if request.measure_rate else None
    return model.model_copy(update={"result_row_bytes": row_bytes(columns, layout), "samples_per_s": rate})


def _found(named: NamedModel, models: ModelCache) -> PreparedModel:
    model = models.model(named.uri)
    return PreparedModel(
        name=named.name,
        uri=model.uri,
        digest=model.digest,
        format=model.format,
        parameters=model.parameters,
        needs_conversion=model.config is not None and model.reference_outputs is None,
        warnings=model.warnings,
    )


def _joined(parts: Sequence[PreparedModel]) -> PreparedModel:
    """The one model, or one of these parts."""
    if len(parts) == 1:
        return parts[0]
    return PreparedModel(
        uri="",
        digest=joint_digest((part.name, part.digest) for part in parts),
        format=", ".join(dict.fromkeys(part.format for part in parts)),
        parameters=sum(part.parameters for part in parts),
        needs_conversion=any(part.needs_conversion for part in parts),
        warnings=tuple(warning for part in parts for warning in part.warnings),
        parts=tuple(parts),
    )


def convert(request: ConvertRequest, models: ModelCache) -> ModelFile:
    """Leaves the model in the run's folder in a form that ranks load without torch, and tries it there.

    The run is claimed by now, so that no other run's folder is written to. A file that ranks load as it is stays where
    it is.
    """
    source, job = request.model, request.job
    files = [_converted(part, job, models) for part in source.parts or (source,)]
    digest = joint_digest((part.name, part.digest) for part in files)
    model = files[0].model_copy(update={"source_digest": source.digest})
    if source.parts:
        model = model.model_copy(update={"uri": "", "name": "", "digest": digest, "parts": tuple(files)})
    layout = first_layout(job.dataset, job)
    engine = models.engine(model.uri, model.digest, job.options, layout, model.parts)
    _try_out(engine, layout)
    return model.model_copy(update={"engine": TORCH if TORCH in engine.info.name else engine.info.name})


def _converted(source: PreparedModel, job: Job, models: ModelCache) -> ModelFile:
    """The file that ranks load; one that is converted may be there from an earlier start."""
    if not source.needs_conversion:
        return ModelFile(name=source.name, uri=source.uri, digest=source.digest, source_digest=source.digest, engine="")
    uri = RunFolder(job.output).model_uri(source.digest)
    if not _is_made_of(uri, source.digest):
        from skyfan.models.conversion import portable_bytes

        store.put(uri, portable_bytes(models.model(source.uri, source.digest)))
    return ModelFile(name=source.name, uri=uri, digest=models.model(uri).digest, source_digest=source.digest, engine="")


def _is_made_of(uri: str, digest: str) -> bool:
    """Whether an earlier start left the model there, whole; kept then, as its ranks may be reading it."""
    try:
        found = load_model(uri)
    except (LocationError, ModelError):
        return False
    return found.made_of == digest and found.reference_outputs is not None


def _try_out(engine: Engine, layout: FileLayout) -> tuple[list[TensorSpec], int]:
    """Which of the file's tensors the model takes, and how many columns it gives; one blank sample is enough."""
    specs = {spec.name: spec for spec in layout.tensors}
    try:
        bound = [specs[name] for name in engine.bind(list(specs))]
        return bound, engine.output_width(_blank(bound, 1))
    except ModelError as error:
        held = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in layout.tensors)
        raise DatasetError(
            f"{layout.uri} does not fit the model: {str(error).rstrip('.')} (it holds {held})."
        ) from error


def _rate(engine: Engine, bound: list[TensorSpec], batch_size: int) -> float:
    """Samples a second of one small batch, after one that warms up: enough to tell minutes from hours."""
    batch = _blank(bound, min(batch_size, RATE_SAMPLES))
    engine.predict(batch)
    start = time.perf_counter()
    engine.predict(batch)
    return len(batch[0]) / (time.perf_counter() - start)


def _blank(bound: list[TensorSpec], samples: int) -> list[NDArray[np.generic]]:
    return [np.zeros((samples, *spec.row_shape), numpy_dtype(spec.dtype)) for spec in bound]
