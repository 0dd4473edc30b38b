"""Inference engines: one interface, one file an engine, chosen by name when a run starts."""

from skyfan.engines.base import Engine, EngineInfo
from skyfan.engines.choose import create_engine

__all__ = ["Engine", "EngineInfo", "create_engine"]
