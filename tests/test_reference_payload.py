"""The input of an execution: a job, the reference system's payload, and what is wrong with others."""

import json
from pathlib import Path

import pytest

from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.reference_payload import parse_execution_input, reference_warnings

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


def test_a_job_keeps_its_values_and_gets_defaults():
    job = parse_execution_input({"dataset": "s3://data/sky.pt", "output": "s3://runs/1", "partition_size": "25MB"})
    assert job.partition_size == 26_214_400
    assert (job.workers, job.tolerated_failure_percentage) == (None, 0)
    assert job.model == "demo"


def test_names_of_earlier_versions_are_understood():
    job = parse_execution_input({"dataset": "a", "output": "b", "partition_size_bytes": None, "max_concurrency": 7})
    assert (job.partition_size, job.workers) == ("file", 7)


def test_reference_payload_works_unchanged():
    job = parse_execution_input(REFERENCE)
    assert job.dataset == "s3://cosmicai-data/100MB/"
    assert job.model == "s3://cosmicai-data/Anomaly Detection/"
    assert job.output == "s3://cosmicai-data/result-partition-100MB/1GB/1"
    assert (job.file_limit, job.world_size, job.batch_size) == (11, 11, 512)
    assert job.partition_size == "file"  # its files are its partitions
    warnings = reference_warnings(REFERENCE)
    assert len(warnings) == 1
    assert "inference.py' is not run" in warnings[0]


def test_world_size_of_the_reference_payload_goes_before_file_limit():
    job = parse_execution_input({**REFERENCE, "file_limit": "22", "world_size": "10"})
    assert (job.file_limit, job.world_size) == (22, 10)


def test_unknown_keys_of_the_reference_payload_are_named():
    assert "speed is unknown and not used." in reference_warnings({**REFERENCE, "speed": 1})


@pytest.mark.parametrize("added", ["Comment", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"])
@pytest.mark.parametrize("payload", [REFERENCE, {"dataset": "a", "output": "b"}])
def test_what_step_functions_adds_by_itself_is_left_out(payload, added):
    assert parse_execution_input({**payload, added: "x"}) == parse_execution_input(payload)


@pytest.mark.parametrize("payload", [REFERENCE, {"dataset": "a", "output": "b", "precision": "bf16"}])
def test_a_jobs_json_is_the_input_of_an_execution(payload):
    job = parse_execution_input(payload)
    assert parse_execution_input(json.loads(job.to_json())) == job


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (["dataset"], "must be a JSON object, not list"),
        ({"output": "b"}, "dataset in the execution's input is missing"),
        ({"dataset": "a", "output": "b", "worldsize": 3}, "worldsize .* is unknown; known are dataset, output"),
        ({"dataset": "a", "output": "b", "world_size": 0}, "world_size in the execution's input is 0"),
        ({"dataset": "a", "output": "b", "workers": 10_001}, "workers .* 10001"),
        ({"dataset": "a", "output": "b", "tolerated_failure_percentage": 250}, "tolerated_failure_percentage .* 250"),
        ({"dataset": "a", "output": "b", "partition_size": "25 apples"}, "25MB"),
        ({"dataset": "a", "output": "b", "schema": "skyfan.job/9"}, "schema .* 'skyfan.job/9'"),
        ({"dataset": "a", "output": "b", "batch_size": {}}, "batch_size"),
        ({key: REFERENCE[key] for key in REFERENCE if key != "data_prefix"}, "lacks data_prefix"),
    ],
)
def test_input_that_cannot_be_used_is_refused_in_a_sentence(payload, message):
    with pytest.raises(BadInput, match=message) as refused:
        parse_execution_input(payload)
    assert "\n" not in str(refused.value)


def test_documentation_names_every_key():
    text = (Path(__file__).parents[1] / "docs" / "how-to" / "step-functions.md").read_text()
    assert all(f"`{field.alias or name}`" in text for name, field in Job.model_fields.items())
