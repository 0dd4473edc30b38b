"""Images: built once for each content, pushed as one manifest for one platform, skipped where the tag is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ACCOUNT, FAKE_BIN, FUNCTIONS, NewWorkspace, small_sources
from .tf_harness.workspace import ROOT, Result, Workspace

SCRIPTS = ROOT / "infra/terraform/scripts"
BUILD = SCRIPTS / "build_and_push.sh"
VARIABLES = ROOT / "infra/terraform/variables.tf"
TOKEN = SCRIPTS / "make_token.sh"
REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"


def bash(path: Path, environment: dict[str, str]) -> Result:
    """Runs one of the module's scripts with nothing else in its environment."""
    done = subprocess.run(
        ["bash", str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return Result(done.returncode, done.stdout)


class Build:
    """One call of the build script with recorded `docker` and `aws`."""

    def __init__(self, folder: Path) -> None:
        self.calls_file = folder / "calls"
        self.environment = {
            "PATH": f"{FAKE_BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "FAKE_CALLS": str(self.calls_file),
            "TARGET": "executor-torch",
            "REPOSITORY": f"{REGISTRY}/skyfan-executor-torch",
            "TAG": "0123abcd",
            "PLATFORM": "linux/arm64",
            "SOURCE_DIR": str(small_sources(folder / "sources")),
            "BUILD_OPTIONS": "",
            "AWS_REGION": "us-east-1",
        }

    def run(self, **environment: str) -> Result:
        return bash(BUILD, self.environment | environment)

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_builds_one_manifest_for_one_platform(build: Build) -> None:
    result = build.run(BUILD_OPTIONS="--build-arg\nTORCH_INDEX=a b")
    assert result.status == 0, result.output
    describe, docker = build.calls()  # and no login: several at once would fight over a keychain
    assert describe.startswith("aws ecr describe-images --region us-east-1 --repository-name skyfan-executor-torch")
    sources = build.environment["SOURCE_DIR"]
    assert docker == (
        "docker buildx build --platform linux/arm64 --provenance=false --sbom=false "
        f"--file {sources}/services/Dockerfile --target executor-torch "
        f"--tag {REGISTRY}/skyfan-executor-torch:0123abcd --push "
        f"--build-arg TORCH_INDEX=a b {sources}"
    )


def test_tag_that_is_there_is_not_built_again(build: Build) -> None:
    result = build.run(FAKE_TAGS="0123abcd")
    assert result.status == 0
    assert "nothing to build" in result.output
    assert len(build.calls()) == 1, "no build"


def test_other_answers_of_the_registry_are_errors(build: Build) -> None:
    result = build.run(FAKE_ECR_ERROR="An error occurred (AccessDeniedException): not you")
    assert result.status != 0
    assert "AccessDeniedException" in result.output
    assert not any(call.startswith("docker") for call in build.calls())


def test_failing_build_fails(build: Build) -> None:
    result = build.run(FAKE_DOCKER_FAILS="1")
    assert result.status != 0
    assert "no space left on device" in result.output


def test_missing_dockerfile_says_what_to_set(build: Build) -> None:
    result = build.run(SOURCE_DIR="/nowhere")
    assert result.status == 1
    assert "set source_dir to the root of a Skyfan checkout" in result.output


def script(name: str, folder: Path, path: str = "", **environment: str) -> Result:
    """One of the module's other scripts, with recorded `docker` and `aws`."""
    known = {"PATH": path or f"{FAKE_BIN}{os.pathsep}/usr/bin{os.pathsep}/bin", "FAKE_CALLS": str(folder / "calls")}
    return bash(SCRIPTS / name, known | {"AWS_REGION": "us-east-1"} | environment)


def test_login_is_for_the_registry(tmp_path: Path) -> None:
    assert script("log_in.sh", tmp_path, REGISTRY=REGISTRY).status == 0
    assert sorted((tmp_path / "calls").read_text().splitlines()) == [  # the two ends of a pipe
        "aws ecr get-login-password --region us-east-1",
        f"docker login --username AWS --password-stdin {REGISTRY}",
    ]


@pytest.mark.parametrize(
    ("name", "instead"),
    [("log_in.sh", "set build_images = false"), ("ensure_ecs_service_role.sh", "set enable_rendezvous = false")],
)
def test_missing_tool_says_what_else_can_be_done(tmp_path: Path, name: str, instead: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to("/bin/bash")
    result = script(name, tmp_path, str(tools))
    assert result.status == 1
    assert instead in result.output


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("", 0, "is made"),
        (
            "An error occurred (InvalidInput) when calling the CreateServiceLinkedRole operation: Service role name "
            "AWSServiceRoleForECS has been taken in this account, please try a different suffix.",
            0,
            "is there",
        ),
        ("An error occurred (AccessDenied): not you", 1, "AccessDenied"),
    ],
)
def test_the_service_role_of_ecs_is_made_once_an_account(tmp_path: Path, error: str, status: int, said: str) -> None:
    result = script("ensure_ecs_service_role.sh", tmp_path, FAKE_IAM_ERROR=error)
    assert (result.status, said in result.output) == (status, True), result.output


def test_one_login_comes_before_all_builds(deployed: Workspace) -> None:
    calls = Path(deployed.environment["FAKE_CALLS"]).read_text().splitlines()
    logins = [number for number, call in enumerate(calls) if call.startswith("docker login")]
    builds = [number for number, call in enumerate(calls) if call.startswith("docker buildx build")]
    assert len(logins) == 1
    assert len(builds) == 4
    assert logins[0] < min(builds)


def test_token_reaches_the_secret_and_nothing_else(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{FAKE_BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "FAKE_CALLS": str(calls),
        "SECRET_ARN": "arn:aws:secretsmanager:us-east-1:1:secret:s",
        "AWS_REGION": "us-east-1",
    }
    done = subprocess.run(["bash", str(TOKEN)], env=environment, capture_output=True, text=True, timeout=30, check=True)
    token = Path(f"{calls}.secret").read_text()
    assert len(token) == 64
    assert int(token, 16) > 0
    assert token not in calls.read_text() + done.stdout + done.stderr


def test_apply_pushes_what_the_functions_run(deployed: Workspace) -> None:
    images = deployed.outputs()["image_uris"]
    assert set(images) == set(FUNCTIONS)
    tags = {uri.rpartition(":")[2] for uri in images.values()}
    assert len(tags) == 1
    calls = Path(deployed.environment["FAKE_CALLS"]).read_text()
    for uri in images.values():
        assert f"--tag {uri} --push" in calls


def test_make_images_names_what_image_uris_takes(tmp_path: Path) -> None:
    known = {"PATH": f"{FAKE_BIN}{os.pathsep}{os.environ['PATH']}", "FAKE_CALLS": str(tmp_path / "calls")}
    settings = [f"REGISTRY={REGISTRY}/skyfan", "TAG=v1", "PLATFORM=linux/arm64", "WHEELS_DIR=/wheels"]
    done = subprocess.run(
        ["make", "--no-print-directory", "images", *settings],
        cwd=ROOT,
        env=os.environ | known,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = dict(re.findall(r'^  ([a-z-]+) = "(.+)"$', done.stdout, re.MULTILINE))
    assert set(printed) == {*FUNCTIONS, "rendezvous"}
    allowed = re.search(r'uri in values\(var.image_uris\) : can\(regex\("(.+?)", uri', VARIABLES.read_text())
    assert allowed
    calls = (tmp_path / "calls").read_text()
    for target, uri in printed.items():
        assert re.search(allowed[1].replace("\\\\", "\\"), uri), uri
        assert "--platform linux/arm64 --provenance=false --sbom=false" in calls
        assert f"--target {target} --tag {uri} ." in calls


def test_changed_content_is_a_new_image(new_workspace: NewWorkspace, current_provider: dict[str, str]) -> None:
    workspace = new_workspace()
    workspace.environment |= current_provider
    sources = small_sources(workspace.folder / "sources")
    workspace.variables = {"source_dir": str(sources)}
    tags = [workspace.evaluate("local.image_tag")]
    for file in ("skyfan/new.py", "services/Dockerfile", "requirements/lock.txt"):
        (sources / file).parent.mkdir(parents=True, exist_ok=True)
        (sources / file).write_text("# changed\n")
        tags.append(workspace.evaluate("local.image_tag"))
    workspace.variables["architecture"] = "arm64"
    tags.append(workspace.evaluate("local.image_tag"))
    assert len(set(tags)) == 5, tags
    assert all(re.fullmatch(r"[0-9a-f]{20}", tag) for tag in tags), tags


def test_what_no_image_holds_changes_nothing(new_workspace: NewWorkspace, current_provider: dict[str, str]) -> None:
    workspace = new_workspace()
    workspace.environment |= current_provider
    sources = small_sources(workspace.folder / "sources")
    workspace.variables = {"source_dir": str(sources)}
    before = workspace.evaluate("local.image_tag")
    for file in ("docs/how-to/deploy.md", "tests/test_x.py", "skyfan/__pycache__/x.pyc", "skyfan.egg-info/PKG-INFO"):
        (sources / file).parent.mkdir(parents=True, exist_ok=True)
        (sources / file).write_text("changed")
    assert workspace.evaluate("local.image_tag") == before


def test_build_context_is_what_the_hash_covers() -> None:
    """Every line that services/Dockerfile.dockerignore lets in is hashed: else a change could go unnoticed."""
    images = (ROOT / "infra/terraform/images.tf").read_text()
    lines = (ROOT / "services/Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:].strip() for line in lines if line.startswith("!")}
    assert allowed
    for path in allowed:
        assert f'"{path}"' in images or f'"{path}/**"' in images, path
