"""The same job by other systems: one module a peer, run by the interpreter that has them (`.venv-bench`)."""

from pathlib import Path

PEERS = ("ray", "lithops", "dask")
WORKERS = 2
PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"
