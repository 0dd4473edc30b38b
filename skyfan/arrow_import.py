"""pyarrow without pandas, for processes that make no data frames.

At its first conversion pyarrow imports pandas wherever that is installed, which takes 0.4 CPU seconds of every command
and of every server that a run starts (benchmarks/NOTES.md, section 7), and remembers whether it could.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class _NoPandas(MetaPathFinder):
    """Finds that there is no pandas. None in `sys.modules` would not do: pyarrow takes it for the module."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """None for all other modules: the next finder is asked."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not imported here", name=fullname)
        return None


def import_arrow_without_pandas() -> None:
    """Imports pyarrow and lets it find no pandas, in a process that has imported neither.

    `Table.to_pandas` does not work in this process then, but pandas itself can be imported.
    """
    if "pyarrow" in sys.modules or "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa

        # Not from the default pool: that reserves 1 GiB of address space, which a limit (ulimit -v) may not have.
        pa.array([0], memory_pool=pa.system_memory_pool())
    finally:
        sys.meta_path.remove(finder)
