"""Called by LocalStack when it starts and when it stops; the entry points are in pyproject.toml."""

import logging
import os
from importlib.metadata import version

from localstack.runtime import hooks

from skyfan_localstack.ready import READY_MARK
from skyfan_localstack.runtime_api import executor, settings
from skyfan_localstack.stepfunctions.patches import apply_all

LOG = logging.getLogger(__name__)
WRITTEN_FOR = "2026.3.0"


@hooks.on_infra_start()
def skyfan_start() -> None:
    """Patch Step Functions and open the Lambda Runtime API, or keep LocalStack from starting."""
    found = version("localstack-core")
    if found != WRITTEN_FOR:
        raise RuntimeError(f"skyfan-localstack is written for localstack-core {WRITTEN_FOR}, this is {found}.")
    for behaviour in apply_all():
        LOG.info("Step Functions patched: %s", behaviour)
    executor.start(settings.from_environment(os.environ))
    READY_MARK.touch()


@hooks.on_infra_shutdown()
def skyfan_stop() -> None:
    """Close the ports, so that workers see at once that the platform is gone."""
    READY_MARK.unlink(missing_ok=True)
    executor.stop()
