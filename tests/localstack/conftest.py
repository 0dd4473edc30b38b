import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "infra" / "localstack"))  # our package, as the image installs it
sys.path.insert(0, str(HERE))

from localstack_support import Stack, build_image, localstack  # noqa: E402

from tests.docker_engine import require_docker  # noqa: E402

# A function for each kind of worker, so that no test meets another's.
PORTS = {"probe": 9001, "victim": 9002, "lonely": 9003, "single": 9004, "broken": 9005, "pipeline": 9006}
TIMEOUT_S = 4
# Functions whose time-out no test waits for: it must not strike on a busy machine.
PATIENT, PATIENT_TIMEOUT_S = {"victim", "single", "pipeline"}, 30


@pytest.fixture(scope="session")
def probe_image() -> str:
    require_docker()
    return build_image("skyfan-localstack-probe:test", HERE / "probe")


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """LocalStack; a call waits up to 3 s for a free worker, and at most eight may wait."""
    require_docker()
    waiting = {"LAMBDA_RUNTIME_API_QUEUE_WAIT_S": "3", "LAMBDA_RUNTIME_API_QUEUE": "8"}
    with localstack(PORTS, waiting) as running:
        for name in PORTS:
            running.create_function(name, timeout_s=PATIENT_TIMEOUT_S if name in PATIENT else TIMEOUT_S)
        yield running


@pytest.fixture(scope="package")
def probes(stack: Stack, probe_image: str) -> Stack:
    """Three workers of `probe` that come back when their process ends, as `restart: always` makes them."""
    for _ in range(3):
        stack.start_worker(probe_image, "probe", PORTS["probe"], restart_policy={"Name": "always"})
    stack.first_answer("probe")
    return stack
