"""A copy of the module in a folder of its own, and the `terraform` that works on it."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".terraform-tools"
TERRAFORM = TOOLS / "bin/terraform"
PROVIDER_FOLDER = TOOLS / "provider-3.39.0"
COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class Result:
    """Exit status and everything that was printed."""

    status: int
    output: str


class Workspace:
    """The repository's `infra/` copied to `folder`, so that tests may change it and leave state behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = folder / "infra/terraform"
        unwanted = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*_override.tf", "*.tfvars")
        for part in ("terraform", "stepfunctions"):
            shutil.copytree(ROOT / "infra" / part, folder / "infra" / part, ignore=unwanted)
        self.variables: dict[str, Any] = {}
        self.environment = _environment(folder)

    def run(self, *arguments: str, check: bool = True, path: str = "", stdin: str = "") -> Result:
        """Run `terraform` in the module (or a folder below it); AssertionError with its output where it fails."""
        (self.module / "test.auto.tfvars.json").write_text(json.dumps(self.variables))
        done = subprocess.run(
            [str(TERRAFORM), *arguments],
            cwd=self.module / path,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"terraform {' '.join(arguments)}\n{done.stdout}"
        return Result(done.returncode, done.stdout)

    def apply(self, *arguments: str) -> str:
        return self.run("apply", "-auto-approve", "-no-color", *arguments).output

    def destroy(self) -> str:
        return self.run("destroy", "-auto-approve", "-no-color", "-refresh=false").output

    def plan(self) -> Result:
        """Plan; status 0 says that nothing is to be changed, 2 that something is."""
        result = self.run("plan", "-detailed-exitcode", "-no-color", check=False)
        assert result.status in {0, 2}, result.output
        return result

    def planned(self) -> dict[str, dict[str, Any]]:
        """Attributes that a plan would give to what it changes, by address; what is not known yet is left out."""
        self.run("plan", "-refresh=false", "-out=test.plan", "-no-color")
        changes = json.loads(_json_part(self.run("show", "-json", "test.plan").output))["resource_changes"]
        return {c["address"]: c["change"]["after"] for c in changes if c["change"]["actions"] != ["no-op"]}

    def evaluate(self, expression: str) -> str:
        """Value of an expression that depends on variables and files only."""
        return self.run("console", "-no-color", stdin=expression).output.strip().splitlines()[-1].strip('"')

    def copy(self, folder: Path) -> Workspace:
        """The same module, state included, in a folder that does not exist yet."""
        shutil.copytree(self.folder, folder)
        made = copy.copy(self)
        made.folder, made.module = folder, folder / "infra/terraform"
        return made

    def outputs(self) -> dict[str, Any]:
        """Output values by name."""
        raw = json.loads(_json_part(self.run("output", "-json").output))
        return {name: entry["value"] for name, entry in raw.items()}

    def resources(self) -> dict[str, dict[str, Any]]:
        """Attributes of everything in the state, by address."""
        state = json.loads((self.module / "terraform.tfstate").read_text())
        found = {}
        for resource in state["resources"]:
            data = "data." if resource["mode"] == "data" else ""
            for instance in resource["instances"]:
                key = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
                found[f"{data}{resource['type']}.{resource['name']}{key}"] = instance["attributes"]
        return found

    def replace(self, file: str, old: str, new: str) -> None:
        """Change the module's source, for tests that must see it fail."""
        path = self.module / file
        text = path.read_text()
        assert text.count(old) >= 1, f"{file} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))


def _json_part(output: str) -> str:
    """What follows the warning about development overrides."""
    return output[output.index("{") :]


def _environment(folder: Path) -> dict[str, str]:
    """The caller's environment without its AWS settings: nothing here may reach an account."""
    configuration = folder / "terraform.rc"
    configuration.write_text(
        f'provider_installation {{\n  dev_overrides {{ "hashicorp/aws" = "{PROVIDER_FOLDER}" }}\n  direct {{}}\n}}\n'
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_CONFIG_FILE": str(configuration),
        "TF_IN_AUTOMATION": "1",
    }


def used_types(module: Path) -> tuple[set[str], set[str]]:
    """Resource types and data source types that a module's files mention."""
    resources: set[str] = set()
    data_sources: set[str] = set()
    for path in module.rglob("*.tf"):
        for line in path.read_text().splitlines():
            words = line.replace('"', " ").split()
            if len(words) > 2 and words[1].startswith("aws_"):
                {"resource": resources, "data": data_sources}.get(words[0], set()).add(words[1])
    return resources, data_sources
