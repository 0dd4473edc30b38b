"""The model that this process has loaded: kept from rank to rank, as a warm Lambda environment keeps it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from skyfan import store
from skyfan.engines import Engine, create_engine
from skyfan.engines.combined import OverSymmetries, SeveralModels
from skyfan.engines.cuda_start import begin_cuda_start
from skyfan.engines.device import CUDA
from skyfan.job import DEMO_MODEL, RunOptions
from skyfan.layout import FileLayout
from skyfan.models import load_model
from skyfan.models.loading import LoadedModel
from skyfan.stages.calibration import first_samples
from skyfan.stages.messages import ModelPart

ModelKey = tuple[str, int | None]
EngineKey = tuple[str, RunOptions, str]


@dataclass
class ModelCache:
    """One engine at a time, of one model or of several; another model or option replaces it."""

    threads: int
    device: str = "cpu"
    _loaded: tuple[ModelKey, LoadedModel] | None = None
    _etag: str = ""
    _engine: tuple[EngineKey, Engine] | None = None

    def __post_init__(self) -> None:
        if self.device == CUDA:
            begin_cuda_start(self.device)

    def model(self, uri: str, digest: str | None = None, random_seed: int | None = None) -> LoadedModel:
        """The model at `uri`; with `digest`, refused if the file is not the one that was planned with.

        Without `digest` it is the current file: a server outlives a file that is replaced under the same name.
        `random_seed` as for `load_model`.
        """
        key = uri, random_seed
        if self._loaded is None or self._loaded[0] != key or not self._is_current(uri, self._loaded[1], digest):
            # The ETag comes first: a file replaced in between is then loaded once more, never kept.
            etag = _etag_of(uri)
            model = load_model(uri, device=self.device, random_seed=random_seed, planned_digest=digest)
            self._loaded = (key, model)
            self._etag = etag
        return self._loaded[1]

    def _is_current(self, uri: str, loaded: LoadedModel, digest: str | None) -> bool:
        return loaded.digest == digest if digest else self._etag == _etag_of(uri)

    def has_engine(self, digest: str, options: RunOptions, file: FileLayout) -> bool:
        """Whether `engine` would return without loading anything."""
        return self._engine is not None and self._engine[0] == _engine_key(digest, options, file)

    def engine(
        self, uri: str, digest: str, options: RunOptions, file: FileLayout, parts: Sequence[ModelPart] = ()
    ) -> Engine:
        """The engine that runs this model, or several `parts`, with these options.

        A reduced precision is calibrated on `file`.
        """
        key = _engine_key(digest, options, file)
        if self._engine is None or self._engine[0] != key:
            self._engine = None  # one at a time: the old one's memory is free before the new one takes its own
            if parts:
                models = [(part.name, self._created(part.uri, part.digest, options, file)) for part in parts]
                self._engine = (key, SeveralModels(models, options.z_column))
            else:
                self._engine = (key, self._created(uri, digest, options, file))
        # An engine holds the weights in its own form, or this very model: no second copy is kept beside it.
        self._loaded = None
        return self._engine[1]

    def _created(self, uri: str, digest: str, options: RunOptions, file: FileLayout) -> Engine:
        model = self.model(uri, digest, options.random_seed)
        samples = functools.partial(first_samples, file, model, options)
        engine = create_engine(model, options, threads=self.threads, samples=samples)
        return OverSymmetries(engine, options.z_column) if options.augment == "symmetries" else engine


def _engine_key(digest: str, options: RunOptions, file: FileLayout) -> EngineKey:
    # A rank's predictions must not depend on which ranks this process computed before.
    calibrated_on = "" if options.precision == "float32" else f"{file.uri} {file.etag}"
    return digest, options, calibrated_on


def _etag_of(uri: str) -> str:
    return "" if uri == DEMO_MODEL else store.head(uri).etag
