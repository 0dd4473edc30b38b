"""What tests of several folders share: a small dataset, a small model, and what the model says of the data."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from xdist.scheduler import LoadScopeScheduling

from skyfan.formats.torch import write_tensorfile

SAMPLES = 101


@dataclass(frozen=True)
class Sample:
    """A dataset in the reference layout, as arrays and as a file."""

    path: Path
    image: NDArray[np.float32]
    magnitude: NDArray[np.float32]
    redshift: NDArray[np.float32]


def make_sample(path: Path, samples: int = SAMPLES, seed: int = 3) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.normal(0.0, 1.0, (samples, 5, 32, 32)).astype(np.float32)
    magnitude = rng.uniform(15.0, 22.0, (samples, 5)).astype(np.float32)
    redshift = rng.uniform(0.01, 0.3, samples).astype(np.float32)
    write_tensorfile(path, [image, magnitude, redshift])
    return Sample(path, image, magnitude, redshift)


def pytest_configure() -> None:
    """In a shell's background jobs SIGINT is ignored, and then in every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Rooms whose tests run whole jobs, start processes, compile models or export programs: a second or more each. They are
# slow as a whole, so that the fast tests stay below a minute.
SLOW_ROOMS = ("e2e", "comm", "engines", "models", "fuzz", "sandbox", "training", "faults", "docs", "report", "curation")
# Where `make test-docker` looks.
DOCKER_ROOMS = ("containers", "localstack", "backends/stepfunctions", "terraform")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests of slow rooms; a process of several gets its tests in the order of `ByFile`."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent)
        if path.parts[0] in SLOW_ROOMS:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("docker") and not any(path.is_relative_to(room) for room in DOCKER_ROOMS):
            raise pytest.UsageError(f"{item.nodeid} needs Docker: `make test-docker` would not find it")
    if hasattr(config, "workerinput"):
        tests = Counter(scope_of(item.nodeid) for item in items)
        longest = {scope: number for number, scope in enumerate(LONGEST)}
        items.sort(key=lambda item: (longest.get(scope := scope_of(item.nodeid), len(LONGEST)), -tests[scope]))


# Folders and files whose tests share a cluster, containers or an applied module: one process runs each line.
SHARED_ROOMS = (
    ("tests/backends/slurm/",),
    ("tests/containers/test_backends_agree.py", "tests/containers/test_comm.py"),
    ("tests/localstack/",),
    ("tests/backends/stepfunctions/",),
    tuple(f"tests/terraform/test_{name}.py" for name in ("apply", "definition", "iam", "images", "strict_s3")),
)
# What takes longest begins first, so that no process is left alone with it in the end; then what has the most tests.
LONGEST = (
    "tests/backends/stepfunctions/",
    "tests/containers/test_faults.py",
    "tests/containers/test_backends_agree.py",
    "tests/e2e/test_distribution.py",
    "tests/docs/test_your_model.py",
    "tests/e2e/collectives/test_faults.py",
    "tests/fuzz/test_programs.py",
    "tests/comm/test_check.py",
    "tests/engines/test_conversion.py",
    "tests/docs/test_notebooks.py",
    "tests/e2e/test_results.py",
    "tests/e2e/test_redshifts.py",
    "tests/e2e/test_hostile_folder.py",
    "tests/faults/test_short.py",
    "tests/backends/slurm/",
    "tests/docs/test_tutorial.py",
)


def scope_of(nodeid: str) -> str:
    """What is handed to a process whole: a file, for its fixtures' sake, or a line of SHARED_ROOMS."""
    return next((room[0] for room in SHARED_ROOMS if nodeid.startswith(room)), nodeid.split("::", 1)[0])


class ByFile(LoadScopeScheduling):
    """With `-n 2`: by `scope_of`, in the order of LONGEST."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_auto_num_workers() -> int:
    """`-n logical` is one process more than processors: tests wait for almost half of their time, for processes, for
    deadlines, for containers."""
    return psutil.cpu_count() + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Takes the place of `--dist`."""
    config.option.loadscopereorder = False  # the order is that of the processes' own collections
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """A test that calls the command line in this process leaves environment and signals as they were."""
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors are slower on more threads, most of all where tests share the processors."""
    monkeypatch.setenv("SKYFAN_THREADS", "1")


@pytest.fixture(scope="session")
def _sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "sky.pt")


@pytest.fixture
def sample(_sample: Sample, tmp_path: Path) -> Sample:
    """101 random galaxies, as arrays and in a file that the test may change."""
    path = tmp_path / "sky.pt"
    shutil.copy2(_sample.path, path)
    return Sample(path, _sample.image.copy(), _sample.magnitude.copy(), _sample.redshift.copy())


def make_small_model(path: Path) -> Path:
    """An AstroMAE of random weights, small enough for tests, as a state dict."""
    import torch

    from skyfan.models import AstroMAE, AstroMAEConfig

    torch.manual_seed(5)
    config = AstroMAEConfig(
        embed_dim=16,
        depth=2,
        mlp_hidden=32,
        pcm_hidden=32,
        pcm_groups=4,
        vit_hidden=24,
        vit_out=24,
        vis_hidden=24,
        vis_out=24,
        magnitude_widths=(24, 24),
        head_hidden=16,
    )
    torch.save(AstroMAE(config).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, once."""
    return make_small_model(tmp_path_factory.mktemp("model") / "small.pt")


@pytest.fixture(scope="session")
def expected_z(_sample: Sample, small_model: Path) -> NDArray[np.float32]:
    """What `model(x)` says of all samples in one batch, in one process."""
    import torch

    from skyfan.models import load_model

    model = load_model(str(small_model))
    return model.predict(torch.from_numpy(_sample.image), torch.from_numpy(_sample.magnitude)).numpy()[:, 0]
