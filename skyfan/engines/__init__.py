"""Inference engines: one interface, one file an engine, chosen by name when a run starts.

`create_engine` is imported when it is first used: commands that only name a device need no model.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skyfan.engines.base import Engine, EngineInfo
    from skyfan.engines.choose import create_engine

__all__ = ["Engine", "EngineInfo", "create_engine"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "create_engine":
        from skyfan.engines.choose import create_engine

        return create_engine
    from skyfan.engines import base

    return getattr(base, name)
