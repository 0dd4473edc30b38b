"""Before the fan-out: read the model and try it, and leave it where ranks load it."""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.dtypes import numpy_dtype
from skyfan.engines import Engine
from skyfan.engines.combined import SYMMETRIES
from skyfan.engines.conversion import convert_model
from skyfan.engines.paying import Work
from skyfan.errors import DatasetError, LocationError, ModelError
from skyfan.formats.dataset import Advance, first_layout
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.models.converted import CHOICE, write_choice
from skyfan.models.loading import CPU, LoadedModel, load_model
from skyfan.models.locating import NamedModel, joint_digest, locate_models
from skyfan.runs.folder import RunFolder
from skyfan.stages.calibration import first_samples
from skyfan.stages.catalog_join import open_catalog
from skyfan.stages.intervals import calibrate
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
    found = [_found(one, models, job.random_seed) for one in locate_models(job.models)]
    _check_random(job, draws=any(draws for _, draws in found))
    model = _joined([part for part, _ in found])
    layout = _first_layout(job, advance)
    require_real_redshifts([layout])
    engine = models.engine(model.uri, model.digest, job.options, layout, model.parts)
    bound, width = _try_out(engine, layout)
    Preprocessing(job).check(layout, [spec.name for spec in bound])
    columns = result_columns(job, layout, [spec.name for spec in bound], engine, width)
    calibration = calibrate(job, engine, width) if job.calibrate is not None else None
    if calibration is not None:
        columns = replace(columns, half_width=calibration.half_width)
    on_gpu = engine.info.device != CPU
    rate = _rate(engine, bound, job.batch_size) if request.measure_rate or on_gpu else None
    return model.model_copy(
        update={
            "result_row_bytes": row_bytes(columns, layout),
            "samples_per_s": rate,
            "calibration": calibration,
            "on_gpu": on_gpu,
        }
    )


def _check_random(job: Job, *, draws: bool) -> None:
    """Raises `ModelError` where nothing would draw the random numbers that the job asks for."""
    if job.random_seed is None:
        return
    if not draws:
        raise ModelError(
            "--random-seed is for exported programs (.pt2) that draw random numbers, as dropout that is left on does; "
            "leave it out, as this model draws none."
        )
    if job.engine not in ("auto", "torch"):
        raise ModelError(f"the {job.engine} engine draws no random numbers; leave --engine out with --random-seed.")


def _found(named: NamedModel, models: ModelCache, random_seed: int | None) -> tuple[PreparedModel, bool]:
    """The model, and whether it draws random numbers."""
    model = models.model(named.uri, random_seed=random_seed)
    prepared = PreparedModel(
        name=named.name,
        uri=model.uri,
        digest=model.digest,
        format=model.format,
        parameters=model.parameters,
        needs_conversion=_needs_conversion(model),
        warnings=model.warnings,
    )
    return prepared, model.program is not None and model.program.draws


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
    layout = _first_layout(job)
    files = [_left_for_ranks(part, request, models, layout) for part in source.parts or (source,)]
    digest = joint_digest((part.name, part.digest) for part in files)
    model = files[0].model_copy(update={"source_digest": source.digest})
    if source.parts:
        model = model.model_copy(update={"uri": "", "name": "", "digest": digest, "parts": tuple(files)})
    engine = models.engine(model.uri, model.digest, job.options, layout, model.parts)
    _try_out(engine, layout)
    name = TORCH if TORCH in engine.info.name else engine.info.name
    return model.model_copy(update={"engine": name, "half_width": _half_width(request)})


def _half_width(request: ConvertRequest) -> float | None:
    """That of the claimed plan: an earlier start may have computed it, on another machine."""
    if request.model.calibration is None:
        return None
    calibration = RunFolder(request.job.output).read_plan().calibration
    return calibration.half_width if calibration else None


def _first_layout(job: Job, advance: Advance | None = None) -> FileLayout:
    catalog = open_catalog(job)
    return first_layout(job.dataset, job, advance, catalog.planned if catalog else None)


def _needs_conversion(model: LoadedModel) -> bool:
    """Whether ranks would each need torch, or the packages of ONNX, to load the file and to choose its engine."""
    if model.config is not None:
        return model.reference_outputs is None
    return model.device == CPU or model.onnx is not None


def _left_for_ranks(
    source: PreparedModel, request: ConvertRequest, models: ModelCache, layout: FileLayout
) -> ModelFile:
    """The file that ranks load: the model's own, or what an earlier start or this one made of it."""
    uri, digest = source.uri, source.digest
    if source.needs_conversion:
        if source.format in ("program", "onnx"):
            uri, digest = _with_engine(source, request, models, layout)
        else:
            uri, digest = _converted(source, request.job, models)
    return ModelFile(name=source.name, uri=uri, digest=digest, source_digest=source.digest, engine="")


def _with_engine(
    source: PreparedModel, request: ConvertRequest, models: ModelCache, layout: FileLayout
) -> tuple[str, str]:
    """URI and SHA-256 of the run's choice of an engine; one that an earlier start made is kept."""
    job, folder = request.job, RunFolder(request.job.output)
    uri = folder.engine_uri(source.digest)
    if not store.exists(uri):
        model = models.model(source.uri, source.digest, job.random_seed)
        timed = "AWS_LAMBDA_FUNCTION_NAME" not in os.environ
        conversion = convert_model(
            model,
            store.read(source.uri),
            job.options,
            threads=models.threads,
            samples=first_samples(layout, model, job.options),
            timed=timed,
            work=Work(_predictions(job, folder), request.executors) if timed else None,
        )
        write_choice(uri.removesuffix(f"/{CHOICE}"), conversion.choice, conversion.files)
    return uri, hashlib.sha256(store.read(uri)).hexdigest()


def _predictions(job: Job, folder: RunFolder) -> int:
    """How often each model of the claimed run predicts."""
    return folder.read_plan().samples * (SYMMETRIES if job.options.augment == "symmetries" else 1)


def _converted(source: PreparedModel, job: Job, models: ModelCache) -> tuple[str, str]:
    """URI and SHA-256 of the converted model, which an earlier start may have left."""
    uri = RunFolder(job.output).model_uri(source.digest)
    if not _is_made_of(uri, source.digest):
        from skyfan.models.safetensors_files import portable_bytes

        store.put(uri, portable_bytes(models.model(source.uri, source.digest)))
    return uri, models.model(uri).digest


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
