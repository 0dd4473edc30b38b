"""The module's text: format, the current provider's schema, and its own mocked tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import NewWorkspace
from .tf_harness.workspace import ROOT, Workspace

MODULE = ROOT / "infra/terraform"
CurrentProvider = dict[str, str]


@pytest.fixture
def workspace(new_workspace: NewWorkspace, current_provider: CurrentProvider) -> Workspace:
    made = new_workspace()
    made.environment |= current_provider
    return made


def test_files_are_formatted(workspace: Workspace) -> None:
    result = workspace.run("fmt", "-check", "-recursive", "-diff", check=False)
    assert result.status == 0, result.output


def test_module_is_valid_for_the_current_provider(workspace: Workspace) -> None:
    assert "Success! The configuration is valid" in workspace.run("validate", "-no-color").output


def test_mocked_tests_pass(workspace: Workspace) -> None:
    output = workspace.run("test", "-no-color").output
    assert re.search(r"Success! \d+ passed, 0 failed", output), output


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("functions.tf", "memory_size  ", "memory_sise  ", 'argument named "memory_sise" is not expected'),
        ("storage.tf", "block_public_acls ", "block_public_alcs ", 'argument named "block_public_alcs" is not'),
        ("images.tf", "image_scanning_configuration", "image_scaning_configuration", "image_scaning_configuration"),
        ("workflow.tf", "  type       =", "  kind       =", 'argument named "kind" is not expected'),
        ("functions.tf", "aws_lambda_function", "aws_lamda_function", "aws_lamda_function"),
        ("rendezvous.tf", "preserve_client_ip ", "preserve_client_pi ", '"preserve_client_pi" is not expected'),
        ("outputs.tf", "pipeline.arn", "pipeline.arm", 'no argument, nested block, or exported attribute named "arm"'),
    ],
)
def test_misspelling_fails(workspace: Workspace, file: str, old: str, new: str, complaint: str) -> None:
    workspace.replace(file, old, new)
    result = workspace.run("validate", "-no-color", check=False)
    assert result.status != 0
    assert complaint in " ".join(result.output.split())


def test_every_variable_and_output_is_described_and_typed() -> None:
    for kind, needed in (("variable", ("description", "type")), ("output", ("description", "value"))):
        text = (MODULE / f"{kind}s.tf").read_text()
        blocks = re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', text, re.M | re.S)
        assert len(blocks) >= 8
        for name, body in blocks:
            for argument in needed:
                assert re.search(rf"^  {argument} +=", body, re.M), f"{kind} {name} has no {argument}"


def test_every_number_and_choice_is_validated() -> None:
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', (MODULE / "variables.tf").read_text(), re.M | re.S)
    free = {"region", "tags", "source_dir", "docker_build_options"}  # Terraform or the build refuses what is wrong
    for name, body in blocks:
        if "bool" not in body and name not in free:
            assert "validation {" in body, f"variable {name} takes anything"


@pytest.mark.parametrize("example", ["minimal", "complete"])
def test_example_is_valid(workspace: Workspace, example: str) -> None:
    folder = f"examples/{example}"
    workspace.run("get", path=folder)
    assert "Success! The configuration is valid" in workspace.run("validate", "-no-color", path=folder).output


def test_minimal_example_is_minimal() -> None:
    folder = MODULE / "examples/minimal"
    assert len((folder / "main.tf").read_text().splitlines()) <= 15
    assert len((folder / "README.md").read_text().splitlines()) <= 40, "one screen"


def test_nothing_but_terraform_is_needed_to_read_the_module() -> None:
    for path in MODULE.rglob("*.tf"):
        assert "TODO" not in path.read_text(), path
    assert not list(Path(MODULE).glob("*.tfstate*"))
