"""Which columns a run's results have: what the job asks for, held against the dataset and the model."""

import math
from collections.abc import Sequence

from skyfan.engines import Engine
from skyfan.engines.combined import redshift_column
from skyfan.errors import BadInput, DatasetError, ModelError
from skyfan.job import RunOptions
from skyfan.layout import FileLayout, OutputSpec
from skyfan.missing import parse_missing
from skyfan.planning import id_column
from skyfan.runs.result_rows import OWN_COLUMNS, OutputColumn, ResultColumns

ALL = "all"


def result_columns(
    options: RunOptions, layout: FileLayout, inputs: Sequence[str], engine: Engine, width: int
) -> ResultColumns:
    """The columns of the results, after the engine has told that it gives `width` columns.

    Raises:
        DatasetError: the dataset lacks a column that is to be kept, or a policy for missing values is for none of the
            model's inputs.
        ModelError: the model has no such output, or one under a name that the results need.
        BadInput: two columns would have one name.
    """
    outputs = _laid_out(engine.outputs(width))
    z_column = redshift_column(engine, options.z_column, width)
    kept = kept_columns(options, layout, inputs)
    for column in parse_missing(options.missing):
        if column and column not in inputs:
            raise DatasetError(
                f"--missing names the column {column}, which is none of the model's inputs: {', '.join(inputs)}."
            )
    chosen = _chosen(options, outputs)
    if z_column is not None:  # an output that is the redshift alone is the column z_pred
        chosen = tuple(one for one in chosen if (one.columns.start, one.columns.stop) != (z_column, z_column + 1))
    names = [*OWN_COLUMNS, *kept, *(one.name for one in chosen)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(
            f"two columns of the results would be called {twice}; leave one out with --keep or --outputs, or rename it "
            "in the dataset or the model."
        )
    replaces = any(policy.action in ("zero", "quantile") for policy in parse_missing(options.missing).values())
    return ResultColumns(chosen, kept, z_column, counts_replaced=replaces)


def _laid_out(specs: Sequence[OutputSpec]) -> tuple[OutputColumn, ...]:
    found, start = [], 0
    for spec in specs:
        found.append(OutputColumn(spec.name, spec.row_shape, slice(start, start + spec.width)))
        start += spec.width
    return tuple(found)


def _chosen(options: RunOptions, outputs: tuple[OutputColumn, ...]) -> tuple[OutputColumn, ...]:
    known = {one.name: one for one in outputs}
    for name in options.outputs:
        if name not in known:
            raise ModelError(f"the model has no output {name}, which --outputs names; it gives {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(options.outputs)) or outputs


def kept_columns(options: RunOptions, layout: FileLayout, inputs: Sequence[str]) -> tuple[str, ...]:
    """The dataset's columns in the results: the IDs, then the others; `all`: every one that the model does not take.

    Raises:
        DatasetError: there is no such column, or it cannot be in a table.
    """
    hidden = {*inputs, *layout.validities.values()}
    names = [name for name in layout.names if name not in hidden] if ALL in options.keep else list(options.keep)
    ids = id_column(options, layout)
    if ids is not None and (ids == options.id or ids not in inputs):
        names = [ids, *names]
        if ids in layout.names and math.prod(layout.tensor(ids).row_shape) != 1:
            raise DatasetError(f"--id {ids} is a column with several values a row; name one with one value.")
    for name in names:
        if name not in layout.names:
            option = "--id" if name == options.id else "--keep"
            left_out = f" Not read: {', '.join(layout.left_out)}." if layout.left_out else ""
            raise DatasetError(
                f"{layout.uri} has no column {name}, which {option} names; it has {', '.join(layout.names)}.{left_out}"
            )
        if layout.tensor(name).dtype.startswith("complex"):
            raise DatasetError(
                f"the column {name} holds complex numbers, which a table cannot; leave it out of --keep."
            )
    return tuple(dict.fromkeys(names))


def row_bytes(columns: ResultColumns, layout: FileLayout) -> int:
    """About how many bytes a row of results has before it is compressed."""
    own = 8 + 4 * 3 + 8
    kept: int = sum(layout.tensor(name).row_bytes for name in columns.kept)
    width: int = sum(one.columns.stop - one.columns.start for one in columns.outputs)
    return own + kept + 4 * width
