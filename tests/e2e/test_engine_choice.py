"""The engine of a program or an ONNX model is chosen once a run, kept when the run goes on, and recorded."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from skyfan.errors import BadInput
from skyfan.models.locating import locate_models, models_digest
from skyfan.runs.folder import RunFolder
from tests.e2e.support import make_job, predictions, run
from tests.models.onnx.models import expected_of_perceptron, perceptron
from tests.models.programs.corpus import MixtureDensity, export

pytest.importorskip("skyfan.engines.openvino_import")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(perceptron(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_an_onnx_run_records_its_engine_and_resumes_with_it(sample, model, tmp_path):
    job = make_job(sample.path, model, tmp_path / "run", engine="openvino")
    run(job)
    table = predictions(tmp_path / "run")
    np.testing.assert_allclose(
        table["z_pred"].to_numpy(), expected_of_perceptron(sample.magnitude)[:, 0], rtol=1e-5, atol=1e-5
    )
    assert len(table["features"].to_pylist()[0]) == 3
    uri = Path(RunFolder(job.output).engine_uri(models_digest(locate_models([str(model)]))))
    choice = json.loads(uri.read_text())
    assert (choice["engine"], choice["reason"]) == ("openvino", "asked for")
    kept = json.dumps({**choice, "reason": "as before"}, separators=(",", ":"))
    uri.write_text(kept)
    (tmp_path / "run" / "predictions" / "rank-0000003.parquet").unlink()
    (tmp_path / "run" / "3.json").unlink()
    run(job)
    assert uri.read_text() == kept
    record = json.loads((tmp_path / "run" / "3.json").read_text())
    assert (record["engine"], record["engine_reason"]) == ("openvino", "as before")


def test_a_short_run_stays_with_torch_and_the_record_says_why(sample, tmp_path):
    (tmp_path / "m.pt2").write_bytes(export(MixtureDensity().eval(), (torch.from_numpy(sample.magnitude[:4]),)))
    job = make_job(sample.path, tmp_path / "m.pt2", tmp_path / "run")
    run(job)
    (uri,) = (tmp_path / "run" / "model").glob("*/engine.json")
    choice = json.loads(uri.read_text())
    assert choice["engine"] == "torch"
    assert choice["reason"].endswith("s and would not pay")
    record = json.loads((tmp_path / "run" / "3.json").read_text())
    assert (record["engine"], record["engine_reason"]) == ("torch", choice["reason"])


def test_an_engine_that_cannot_run_the_model_is_refused_before_anything_is_written(sample, model, tmp_path):
    with pytest.raises(BadInput, match="the torch engine does not run an ONNX model"):
        run(make_job(sample.path, model, tmp_path / "run", engine="torch"))
    assert not (tmp_path / "run").exists()
