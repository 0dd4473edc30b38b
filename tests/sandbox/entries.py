"""What tests run in confined children."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def outcome(data: bytes) -> dict[str, Any]:
    """What can be done from inside, with the paths that came in."""
    outside = Path(data.decode())
    found = {"inside": tried(lambda: Path("here").write_text("x"))}
    found["outside"] = tried(lambda: (outside / "there").write_text("x"))
    found["overwrite"] = tried(lambda: (outside / "kept").write_text("x"))
    found["remove"] = tried(lambda: (outside / "kept").unlink())
    found["start"] = tried(lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    found["connect"] = tried(lambda: socket.create_connection(("127.0.0.1", 9), 1).close())
    found["parent"] = tried(lambda: os.kill(os.getppid(), 0))
    found["secrets"] = [name for name in os.environ if "SECRET" in name]
    return found


def tried(function: Any) -> str:
    """What the function raised."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return type(error).__name__
    return "done"


def segfault(_: bytes) -> None:
    """Dies as a native crash does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(_: bytes) -> None:
    """Never ends by itself."""
    time.sleep(600)


def allocate(_: bytes) -> None:
    """More memory than there may be."""
    bytearray(2**34)


def fail(_: bytes) -> None:
    """Raises, with something to colour the terminal."""
    raise ValueError("a reason\x1b[2J")
