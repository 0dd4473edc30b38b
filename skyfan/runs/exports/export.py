"""Exports a run: which format, whether the run is whole, and that a half-written table is never seen."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

from skyfan import store
from skyfan.errors import BadInput, Incomplete
from skyfan.planning import Plan
from skyfan.runs.commit import RunLedger
from skyfan.runs.exports.results import Results

Writer = Callable[[Results, Path], int]
# Module and function of each; loaded when one is asked for, as some need libraries of an extra.
_WRITERS = {
    "parquet": ("parquet", "write_parquet"),
    "fits": ("fits", "write_fits"),
    "csv": ("text", "write_csv"),
    "ecsv": ("text", "write_ecsv"),
    "hats": ("hats", "write_hats"),
    "qp": ("qp", "write_qp"),
}
# Suffixes that are not the format's name.
_SUFFIXES = {"hdf5": "qp", "h5": "qp", "": "hats"}
_EXTRAS = {"qp": "pz"}
FORMATS = tuple(_WRITERS)


def export_run(
    folder: RunLedger, plan: Plan, path: Path, kind: str | None = None, *, allow_missing: bool = False
) -> int:
    """Writes all rows of the run to `path` and returns their number.

    The format is that of the name's suffix (`.parquet`, `.fits`, `.csv`, `.ecsv`, `.hdf5` for a qp ensemble), HATS for
    a name without one, or `kind`.

    Raises:
        Incomplete: samples have no prediction, and `allow_missing` is false.
        BadInput: the format is unknown or needs what is not installed, or `path` exists.
    """
    suffix = path.suffix.removeprefix(".").lower()
    chosen = kind or _SUFFIXES.get(suffix, suffix)
    write = _writer(chosen)
    if path.exists():
        raise BadInput(f"{path} exists already; remove it or choose another name.")
    if not allow_missing:
        _check_complete(folder, plan)
    temporary = store.temporary_beside(path)
    with store.named_errors(str(path), "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if chosen == "hats":
                temporary.mkdir()
            rows = write(Results(folder, plan, path.name), temporary)
            temporary.rename(path)
        except BaseException:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
            raise
    return rows


def _writer(kind: str) -> Writer:
    if kind not in _WRITERS:
        raise BadInput(f"{kind!r} is no format of tables that Skyfan writes; choose one of {', '.join(FORMATS)}.")
    module, name = _WRITERS[kind]
    try:
        found: Writer = getattr(importlib.import_module(f"skyfan.runs.exports.{module}"), name)
        if kind == "hats":
            importlib.import_module("cdshealpix")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(kind, "catalogues")
        raise BadInput(f"a table in the format {kind} needs {error.name}: pip install 'skyfan[{extra}]'.") from error
    return found


def _check_complete(folder: RunLedger, plan: Plan) -> None:
    summary = folder.read_summary()
    if summary is not None and summary.completeness.samples_missing:
        raise Incomplete(
            f"{summary.completeness.samples_missing:,} of {summary.samples:,} samples have no prediction; "
            "--allow-missing exports the rows that are there, with the reason in the column missing."
        )
    # A summary can be older than the plan, which --extend has made longer, and than the files, if one was removed.
    whole = summary is not None and summary.samples == plan.samples
    if not whole or folder.committed_of(plan) != list(plan.working_ranks):
        raise Incomplete(
            f"{folder.uri} is not finished; run the same command again, or take what is there with --allow-missing."
        )
