"""The reference system's execution payload, unchanged: its names, its files, its division among ranks."""

import json
from pathlib import Path

import pytest

from skyfan import store
from skyfan.runs.folder import RunFolder
from tests.backends.stepfunctions.deployment import PIPELINE, predictions
from tests.conftest import make_sample

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PAYLOAD = json.loads((Path(__file__).parents[2] / "data" / "published" / "aws" / "demo input.json").read_text())
FILES, RANKS, SAMPLES_PER_FILE = 22, 10, 3


@pytest.fixture
def bucket(deployment, small_model, tmp_path):
    """The payload's bucket as the reference system fills it: files 1.pt, 2.pt, …, and a folder of code and model."""
    name = PAYLOAD["bucket"]
    assert name == PAYLOAD["data_bucket"]
    deployment.stack.client("s3").create_bucket(Bucket=name)
    for number in range(1, FILES + 1):
        part = make_sample(tmp_path / f"{number}.pt", samples=SAMPLES_PER_FILE, seed=number)
        store.copy_in(part.path, f"s3://{name}/{PAYLOAD['data_prefix']}/{number}.pt")
    folder = f"s3://{name}/{PAYLOAD['S3_object_name']}"
    store.copy_in(small_model, f"{folder}/Fine_Tune_Model/Mixed_Inception_z_VITAE_Base_Img_Full_New_Full.pt")
    store.put(f"{folder}/Inference/inference.py", b"raise SystemExit('this must never run')")
    return name


def test_10_ranks_over_22_files(deployment, bucket):
    payload = {**PAYLOAD, "file_limit": str(FILES), "world_size": str(RANKS)}
    states = deployment.stack.client("stepfunctions")
    arn = next(m["stateMachineArn"] for m in states.list_state_machines()["stateMachines"] if m["name"] == PIPELINE)
    started = states.start_execution(stateMachineArn=arn, input=json.dumps(payload))
    ended = deployment.stack.wait(started["executionArn"], timeout_s=180)
    assert ended["status"] == "SUCCEEDED", ended.get("cause")

    output = f"s3://{bucket}/{payload['result_path']}"
    assert ended["output"]["summary"] == f"{output}/summary.json"
    plan = RunFolder(output).read_plan()
    # The reference's rule: rank r gets ceil(files left / ranks left) files, in contiguous runs.
    files = [sorted({span.file for span in spans}) for spans in plan.ranks]
    assert [len(those) for those in files] == [3, 3, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [number for those in files for number in those] == list(range(FILES))
    assert [file.uri.rsplit("/", 1)[1] for file in plan.files] == [f"{n}.pt" for n in range(1, FILES + 1)]
    assert predictions(output)["sample_index"].to_pylist() == list(range(FILES * SAMPLES_PER_FILE))

    combined = json.loads(store.read(f"{output}/combined_data.json"))
    assert [entry["rank"] for entry in combined] == list(range(RANKS))
    assert {"total_cpu_time (seconds)", "total_cpu_memory (MB)", "throughput_bps", "sample_persec"} <= combined[
        0
    ].keys()
