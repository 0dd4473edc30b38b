"""What `make dist` builds installs into an empty environment, and runs there without the repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"  # as in the Makefile


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of an environment with the wheel (built from the source distribution) and the locked packages."""
    folder = tmp_path_factory.mktemp("dist")
    _run(folder, sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
    assert list(folder.glob("skyfan-*.tar.gz"))
    (wheel,) = folder.glob("skyfan-*.whl")
    _run(folder, sys.executable, "-m", "venv", "environment")
    programs = folder / "environment" / "bin"
    wheels = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, check=False
    )
    index = [] if wheels.returncode == 0 else ["--extra-index-url", TORCH_INDEX]
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    # torch asks for a newer setuptools than some Pythons bring, and a lock names none.
    _run(folder, *pip, *index, "setuptools>=77.0.3", "--requirement", str(ROOT / "requirements" / "run.txt"))
    _run(folder, *pip, str(wheel))
    return programs


def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    _run(tmp_path, installed / "skyfan", "demo", "--on", "local")
    summary = json.loads((tmp_path / "runs" / "demo" / "summary.json").read_text())
    assert summary["state"] == "complete"
    assert (tmp_path / "runs" / "demo" / "report.html").stat().st_size > 0
    _run(tmp_path, installed / "skyfan", "cost", "runs/demo")
    _run(tmp_path, installed / "skyfan", "plan", "--dataset", "data/demo.pt", "--forecast")


def test_the_wheel_brings_one_package_and_all_that_it_imports(installed, tmp_path):
    _run(tmp_path, installed / "python", "-m", "pip", "check")
    where = _run(tmp_path, installed / "python", "-c", "import skyfan; print(skyfan.__file__)").strip()
    assert Path(where).is_relative_to(installed.parent)
    listed = _run(tmp_path, installed / "python", "-m", "pip", "show", "--files", "skyfan")
    files = {line.strip() for line in listed.partition("Files:\n")[2].splitlines()}
    assert {file.partition("/")[0] for file in files if not file.startswith("..")} - {"skyfan"} == {
        next(file for file in files if ".dist-info" in file).partition("/")[0]
    }


def test_an_editable_install_is_found_in_the_folder_above_a_clone(tmp_path):
    build = "import sys, setuptools.build_meta as build; build.build_editable(sys.argv[1])"
    clone = tmp_path / "skyfan"
    clone.mkdir()
    for name in ("skyfan", "pyproject.toml", "README.md", "LICENSE"):
        (clone / name).symlink_to(ROOT / name)
    _run(clone, sys.executable, "-c", build, str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    imported = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); import skyfan; print(skyfan.run.__name__)"
    assert _run(tmp_path, sys.executable, "-c", imported).strip() == "run"


def _run(folder, *command):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
