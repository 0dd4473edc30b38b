"""What the servers share: gRPC servicers, Lambda dispatch, health, tokens."""

import sys


def _import_structlog_alone() -> None:
    """Imports structlog without rich, which it would import to draw tracebacks.

    Servers draw none (`skyfan.logs`), and rich with what it needs is a quarter of what a rank imports. A module that is
    None in `sys.modules` cannot be imported; structlog does without it then.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog_alone()
