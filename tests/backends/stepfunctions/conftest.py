import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import boto3
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "localstack"))

from localstack_support import CREDENTIALS, REGION

from skyfan import store
from skyfan.backends.stepfunctions.access import prepare_environment
from tests.backends.stepfunctions.deployment import BUILD_DEADLINE_S, DATA, Deployment, deployed
from tests.backends.stepfunctions.on_moto import BUCKET, SETTINGS
from tests.conftest import Sample, make_sample
from tests.docker_engine import require_docker
from tests.moto_server import moto_server

SAMPLES = 200
FILES = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test builds the images, on a bare machine for longer than a test may take otherwise."""
    for item in items:
        if "_deployment" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BUILD_DEADLINE_S + 600))


@pytest.fixture(scope="package")
def _deployment() -> Iterator[Deployment]:
    require_docker()
    with deployed() as running:
        yield running


@pytest.fixture
def deployment(_deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The pipeline, with the environment that points to it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    settings = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": _deployment.stack.endpoint}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    _deployment.revive()
    return _deployment


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """200 random galaxies in one file."""
    return make_sample(tmp_path_factory.mktemp("sky") / "sky.pt", samples=SAMPLES)


@pytest.fixture
def one_file(deployment: Deployment, sky: Sample) -> str:
    """The galaxies as one object."""
    uri = f"s3://{DATA}/sky.pt"
    if not store.exists(uri):
        store.copy_in(sky.path, uri)
    return uri


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """40 files of five galaxies each."""
    folder = tmp_path_factory.mktemp("parts")
    return [make_sample(folder / f"{number:02}.pt", samples=SAMPLES // FILES, seed=number) for number in range(FILES)]


@pytest.fixture
def many_files(deployment: Deployment, parts: list[Sample], request: pytest.FixtureRequest) -> str:
    """A folder of the 40 files for this test alone: some tests lose files."""
    uri = f"s3://{DATA}/{request.node.name}"
    for part in parts:
        store.copy_in(part.path, f"{uri}/{part.path.name}")
    return f"{uri}/"


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A user who has set nothing."""
    for name in (*SETTINGS, "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        # Set first, so that monkeypatch takes away again what the code under test sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    yield monkeypatch
    prepare_environment("aws")  # forgets what a test had it set for LocalStack


@pytest.fixture(scope="module")
def server():
    with moto_server() as url:
        yield url


@pytest.fixture
def moto(bare, server):
    """S3, Step Functions and Lambda of moto, which start nothing but keep what they are told."""
    urlopen(Request(f"{server}/moto-api/reset", method="POST"), timeout=10).close()
    for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": server}.items():
        bare.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
