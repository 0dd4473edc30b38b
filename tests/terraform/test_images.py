"""Images: built once for each content, pushed as one manifest for one platform, skipped where the tag is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ACCOUNT, FAKE_BIN, NewWorkspace, small_sources
from .tf_harness.workspace import ROOT, Result, Workspace

BUILD = ROOT / "infra/terraform/scripts/build_and_push.sh"
TOKEN = ROOT / "infra/terraform/scripts/make_token.sh"
REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"


class Build:
    """One call of the build script with recorded `docker` and `aws`."""

    def __init__(self, folder: Path) -> None:
        self.calls_file = folder / "calls"
        self.environment = {
            "PATH": f"{FAKE_BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "FAKE_CALLS": str(self.calls_file),
            "SERVICE": "executor",
            "REPOSITORY": f"{REGISTRY}/skyfan-executor",
            "TAG": "0123abcd",
            "PLATFORM": "linux/arm64",
            "SOURCE_DIR": str(small_sources(folder / "sources")),
            "BUILD_OPTIONS": "",
            "AWS_REGION": "us-east-1",
        }

    def run(self, **environment: str) -> Result:
        done = subprocess.run(
            ["bash", str(BUILD)],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        return Result(done.returncode, done.stdout)

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_builds_one_manifest_for_one_platform(build: Build) -> None:
    result = build.run(BUILD_OPTIONS="--build-arg\nTORCH_INDEX=a b")
    assert result.status == 0, result.output
    describe, *login, docker = build.calls()
    assert describe.startswith("aws ecr describe-images --region us-east-1 --repository-name skyfan-executor")
    assert sorted(login) == [  # the two ends of a pipe
        "aws ecr get-login-password --region us-east-1",
        f"docker login --username AWS --password-stdin {REGISTRY}",
    ]
    sources = build.environment["SOURCE_DIR"]
    assert docker == (
        "docker buildx build --platform linux/arm64 --provenance=false --sbom=false "
        f"--file {sources}/services/executor/Dockerfile --tag {REGISTRY}/skyfan-executor:0123abcd --push "
        f"--build-arg TORCH_INDEX=a b {sources}"
    )


def test_tag_that_is_there_is_not_built_again(build: Build) -> None:
    result = build.run(FAKE_TAGS="0123abcd")
    assert result.status == 0
    assert "nothing to build" in result.output
    assert len(build.calls()) == 1, "neither login nor build"


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
    result = build.run(SERVICE="telescope")
    assert result.status == 1
    assert "set source_dir to the root of a Skyfan checkout" in result.output


def test_missing_tool_says_what_else_can_be_done(build: Build, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to("/bin/bash")
    result = build.run(PATH=str(tools))
    assert result.status == 1
    assert "set build_images = false" in result.output


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
    assert set(images) == {"partitioner", "executor", "aggregator"}
    tags = {uri.rpartition(":")[2] for uri in images.values()}
    assert len(tags) == 1
    calls = Path(deployed.environment["FAKE_CALLS"]).read_text()
    for uri in images.values():
        assert f"--tag {uri} --push" in calls


def test_changed_content_is_a_new_image(new_workspace: NewWorkspace, current_provider: dict[str, str]) -> None:
    workspace = new_workspace()
    workspace.environment |= current_provider
    sources = small_sources(workspace.folder / "sources")
    workspace.variables = {"source_dir": str(sources)}
    tags = [workspace.evaluate("local.image_tag")]
    for file in ("skyfan/new.py", "services/executor/Dockerfile", "requirements/lock.txt"):
        (sources / file).parent.mkdir(exist_ok=True)
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
        (sources / file).parent.mkdir(exist_ok=True)
        (sources / file).write_text("changed")
    assert workspace.evaluate("local.image_tag") == before


def test_build_context_is_what_the_hash_covers() -> None:
    """Every line that a .dockerignore lets in is hashed: else a change could go unnoticed."""
    images = (ROOT / "infra/terraform/images.tf").read_text()
    files = [ROOT / ".dockerignore", *ROOT.glob("services/*/Dockerfile.dockerignore")]
    allowed = {line[1:].strip() for file in files for line in file.read_text().splitlines() if line.startswith("!")}
    assert allowed
    for path in allowed:
        inside = path.startswith(("skyfan/", "services/"))
        assert inside or f'"{path}"' in images or f'"{path}/**"' in images, path
