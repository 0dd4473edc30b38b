"""The pipeline's input: ours, the reference system's, and what is wrong with others."""

from pathlib import Path

import pytest

from skyfan.errors import BadInput
from skyfan.reference_payload import RunRequest, parse_request

# The execution payload that the reference system's documentation shows (UVA-MLSys/AI-for-Astronomy).
REFERENCE = {
    "bucket": "cosmicai-data",
    "file_limit": "11",
    "batch_size": 512,
    "object_type": "folder",
    "S3_object_name": "Anomaly Detection",
    "script": "/tmp/Anomaly Detection/Inference/inference.py",
    "result_path": "result-partition-100MB/1GB/1",
    "data_bucket": "cosmicai-data",
    "data_prefix": "100MB",
}


def test_own_request_keeps_its_values_and_gets_defaults():
    request = parse_request({"dataset": "s3://data/sky.pt", "output": "s3://runs/1", "partition_size_bytes": "25MB"})
    assert request.partition_size_bytes == 26_214_400
    assert (request.max_concurrency, request.tolerated_failure_percentage) == (1000, 0)
    assert request.model is None
    assert request.source == "skyfan"


def test_reference_payload_works_unchanged():
    request = parse_request(REFERENCE)
    assert request.dataset == "s3://cosmicai-data/100MB/"
    assert request.model == "s3://cosmicai-data/Anomaly Detection/"
    assert request.output == "s3://cosmicai-data/result-partition-100MB/1GB/1"
    assert (request.file_limit, request.world_size, request.batch_size) == (11, 11, 512)
    assert request.source == "reference"
    assert len(request.warnings) == 1
    assert "inference.py' is not run" in request.warnings[0]


def test_world_size_of_the_reference_payload_goes_before_file_limit():
    request = parse_request({**REFERENCE, "file_limit": "22", "world_size": "10"})
    assert (request.file_limit, request.world_size) == (22, 10)


def test_unknown_keys_of_the_reference_payload_are_named():
    assert "speed is unknown and not used." in parse_request({**REFERENCE, "speed": 1}).warnings


@pytest.mark.parametrize("payload", [REFERENCE, {"dataset": "a", "output": "b", "options": {"threads": 2}}])
def test_normalising_twice_changes_nothing(payload):
    request = parse_request(payload)
    assert parse_request(request.model_dump(mode="json")) == request


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (["dataset"], "must be a JSON object, not list"),
        ({"output": "b"}, "lacks dataset"),
        ({"dataset": "a", "output": "b", "worldsize": 3}, "unknown key worldsize; known are dataset, output"),
        ({"dataset": "a", "output": "b", "world_size": 0}, "world_size in the execution's input is 0"),
        ({"dataset": "a", "output": "b", "max_concurrency": 10_001}, "max_concurrency .* 10001"),
        ({"dataset": "a", "output": "b", "tolerated_failure_percentage": 2.5}, "tolerated_failure_percentage .* 2.5"),
        ({"dataset": "a", "output": "b", "partition_size_bytes": "25 apples"}, "25MB"),
        ({"dataset": "a", "output": "b", "options": {"deep": {}}}, "options"),
        ({key: REFERENCE[key] for key in REFERENCE if key != "data_prefix"}, "lacks data_prefix"),
    ],
)
def test_input_that_cannot_be_used_is_refused_in_a_sentence(payload, message):
    with pytest.raises(BadInput, match=message) as refused:
        parse_request(payload)
    assert "\n" not in str(refused.value)


def test_documentation_names_every_key():
    text = (Path(__file__).parents[1] / "docs" / "step-functions.md").read_text()
    assert all(f"`{name}`" in text for name in RunRequest.model_fields)
