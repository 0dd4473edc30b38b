"""A rank through an engine that takes batches ahead of its outputs, as the GPU's does; here it runs on the CPU."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skyfan.engines import Engine
from skyfan.engines.cuda_engine import CudaEngine
from skyfan.formats.torch import write_tensorfile
from skyfan.job import Job
from skyfan.models import load_model
from skyfan.runs.folder import RunFolder
from skyfan.stages.infer import infer
from skyfan.stages.messages import InferRequest, ModelFile, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import prepare
from tests.conftest import Sample


@dataclass
class PiecesCache(ModelCache):
    """Gives the GPU's engine with pieces of so many samples, or the CPU's."""

    piece_samples: int | None = None

    def engine(self, uri: str, *rest: object) -> Engine:
        if self.piece_samples is None:
            return super().engine(uri, *rest)  # type: ignore[arg-type]
        return CudaEngine(load_model(uri), reason="test", piece_samples=self.piece_samples)


@pytest.fixture
def damaged(sample: Sample) -> Sample:
    sample.image[40, 0, 3, 3] = np.nan
    write_tensorfile(sample.path, [sample.image, sample.magnitude, sample.redshift])
    return sample


def predictions(sample: Sample, model: Path, output: Path, batch_size: int, piece: int | None) -> dict[str, np.ndarray]:
    job = Job.model_validate(
        {"dataset": str(sample.path), "model": str(model), "output": str(output), "partition_size": "file"}
        | {"batch_size": batch_size, "engine": "torch"}
    )
    models = PiecesCache(threads=1, piece_samples=piece)
    prepared = prepare(PrepareRequest(job=job), models)
    reply = plan(PlanRequest(job=job, model=prepared))
    item = RunFolder(job.output).read_plan().item(0)
    file = ModelFile(uri=prepared.uri, digest=prepared.digest, source_digest=prepared.digest, engine="torch")
    record = infer(InferRequest(run_id=reply.run_id, job=job, item=item, model=file), models)
    assert (record.samples_missing, record.missing_indices) == (1, (40,))
    assert record.num_batches == -(-record.samples // batch_size)
    table = pq.read_table(RunFolder(str(output)).predictions_uri(0))
    return {name: table[name].to_numpy() for name in ("sample_index", "z_pred", "z_spec")}


@pytest.mark.slow
@pytest.mark.parametrize("piece", [3, 16, 64, 1024])
def test_rows_are_the_same_whatever_pieces_they_were_computed_in(
    damaged: Sample, small_model: Path, tmp_path: Path, piece: int
) -> None:
    expected = predictions(damaged, small_model, tmp_path / "cpu", batch_size=101, piece=None)
    for batch_size in (7, 64):
        found = predictions(damaged, small_model, tmp_path / f"{batch_size}", batch_size, piece)
        np.testing.assert_array_equal(found["sample_index"], np.arange(101))
        np.testing.assert_array_equal(found["z_spec"], damaged.redshift)
        np.testing.assert_allclose(found["z_pred"], expected["z_pred"], rtol=1e-5, atol=1e-5)
        assert np.isnan(found["z_pred"]).tolist() == [index == 40 for index in range(101)]
