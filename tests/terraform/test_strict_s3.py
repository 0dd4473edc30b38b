"""What the functions ask of S3, under the policies as applied and by AWS's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyfan.errors import LocationError
from skyfan.formats.dataset import dataset_files, read_layouts
from tests.conftest import make_sample

from .test_iam import policies
from .tf_harness.strict_s3 import strict_s3
from .tf_harness.workspace import Workspace

NAMES = [f"s3://survey/dr18/{number}.pt" for number in (1, 2, 10)]


@pytest.fixture(params=["partitioner", "executor", "executor-torch"])
def survey(
    deployed: Workspace, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Another bucket's folder of three files, named in `dataset_arns`; this process has one function's rights."""
    content = make_sample(tmp_path / "sky.pt", samples=2).path.read_bytes()
    objects = {name.removeprefix("s3://"): content for name in [*NAMES, "s3://survey/dr19/1.pt"]}
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with strict_s3(objects, policies(deployed.resources())[request.param]) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield


@pytest.mark.parametrize("folder", ["s3://survey/dr18", "s3://survey/dr18/"])
def test_a_folder_in_dataset_arns_is_a_dataset(survey: None, folder: str) -> None:
    assert dataset_files(folder) == NAMES
    assert [layout.samples for layout in read_layouts(folder)] == [2, 2, 2]


@pytest.mark.parametrize("elsewhere", ["s3://survey/dr19", "s3://survey/dr19/1.pt", "s3://survey/dr18/11.pt"])
def test_what_is_not_granted_or_not_there_is_refused(survey: None, elsewhere: str) -> None:
    with pytest.raises(LocationError, match="access denied"):
        read_layouts(elsewhere)
