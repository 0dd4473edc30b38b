"""`python -m skyfan_localstack.ready`: exit status 0 when S3, Step Functions and Lambda can be used.

LocalStack's own health page does not know of our hooks, and goes on without one that cannot be imported: the
mark says that they ran.
"""

import json
import sys
from pathlib import Path
from urllib.request import urlopen

READY_MARK = Path("/tmp/skyfan-localstack.ready")  # noqa: S108 - in a container of our own
_NEEDED = ("lambda", "s3", "stepfunctions")


def is_ready() -> bool:
    """Whether the hooks ran and the services are there; raises OSError while nothing listens."""
    with urlopen("http://127.0.0.1:4566/_localstack/health", timeout=2) as page:
        services: dict[str, str] = json.load(page)["services"]
    return READY_MARK.exists() and all(services.get(name) in ("available", "running") for name in _NEEDED)


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
