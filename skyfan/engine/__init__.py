"""Inference engines: one interface, one file an engine, chosen by name when a run starts."""

from skyfan.engine.base import Engine, EngineInfo
from skyfan.engine.choose import create_engine

__all__ = ["Engine", "EngineInfo", "create_engine"]
