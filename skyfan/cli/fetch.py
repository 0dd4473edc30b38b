"""`skyfan fetch`: a run's files from wherever it wrote them into a folder of this machine."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from skyfan import store
from skyfan.cli import options
from skyfan.cli.console import progress_bar, say
from skyfan.errors import BadInput, LocationError
from skyfan.runs.folder import RunFolder

READERS = 8
# The files that a run writes; no other file of a folder is fetched or removed.
_OF_A_RUN = re.compile(
    r"plan(-\d+)?\.json|items\.jsonl?|\d+\.json|combined_data\.json|summary\.json|report\.html|predictions/rank-\d+\.parquet"
    r"|model/[\w.]+(/[\w.]+)?|catalog/\w+\.npy"
)
# These two describe the other files, and so are copied after them.
_LAST = ("summary.json", "report.html")


def fetch(
    output: Annotated[str, typer.Argument(help="The run's folder (path or URI), such as s3://bucket/run.")],
    folder: Annotated[Path, typer.Argument(help="Where the copies go; made if it is not there.")],
    quiet: options.Quiet = False,
) -> None:
    """Copy a run's files to this machine; another run's files in the folder are removed."""
    count = fetch_run(output, folder, quiet=quiet)
    if not quiet:
        say(f"copied {count:,} files of {output}; open {folder / 'report.html'}")


def fetch_run(output: str, folder: Path, *, quiet: bool) -> int:
    """Copies the run's files, each whole or not at all, and returns their number.

    Raises:
        LocationError: `output` holds no run.
        BadInput: `folder` cannot be made.
    """
    names = [name for name in _names(output) if _OF_A_RUN.fullmatch(name)]
    if "plan.json" not in names:
        raise LocationError(f"{output} holds no run (no plan.json), so that there is nothing to copy to {folder}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error.strerror}; choose a folder that you may write to.") from error
    _remove_other_run(output, folder)
    with progress_bar("copying", quiet) as advance, ThreadPoolExecutor(READERS) as readers:

        def copy(name: str) -> None:
            store.put(folder / name, store.read(store.join(output, name)))

        first = [name for name in names if name not in _LAST]
        for done, _ in enumerate(readers.map(copy, first), start=1):
            advance(done, len(names))
        for name in _LAST:
            if name in names:
                copy(name)
    return len(names)


def _names(output: str) -> list[str]:
    """Names relative to the run's folder."""
    root = str(store.local_path(output) or output).rstrip("/") + "/"
    return [entry.uri.removeprefix(root) for entry in store.list(output)]


def _remove_other_run(output: str, folder: Path) -> None:
    """Removes another run's files from `folder`, which would otherwise mix with this run's."""
    if not (folder / "plan.json").exists():
        return
    if RunFolder(str(folder)).read_plan().run_id == RunFolder(output).read_plan().run_id:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _OF_A_RUN.fullmatch(path.relative_to(folder).as_posix()):
            path.unlink()
