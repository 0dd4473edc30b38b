"""OpenVINO without its telemetry: the one module that imports `openvino`; all others take it from here.

`import openvino` imports `openvino_telemetry`, a hard dependency of its wheel, which looks for a home directory
(AWS Lambda has none: the import fails), writes a consent file into it, and posts to an analytics host from a forked
process. A module that is None in `sys.modules` cannot be imported, so that OpenVINO falls back on its own stub
(openvino/tools/ovc/telemetry_utils.py of 2026.4).
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # the import system's way to forbid a module

import openvino  # noqa: E402 - the line above comes first
from openvino import opset13  # noqa: E402

__all__ = ["openvino", "opset13"]
