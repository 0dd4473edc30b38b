"""What a command that only names a device does not import."""

import subprocess
import sys


def test_naming_a_device_imports_no_model_and_no_numpy() -> None:
    code = "import skyfan.engines.device, sys; print([m for m in ('numpy', 'torch', 'openvino') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
