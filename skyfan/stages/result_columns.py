"""Which columns a run's results have: what the job asks for, held against the dataset and the model."""

import math
from collections.abc import Sequence

from skyfan.columns import IN_TRAINING
from skyfan.engines import Engine
from skyfan.engines.combined import redshift_column
from skyfan.errors import BadInput, DatasetError, ModelError
from skyfan.job import RunOptions
from skyfan.layout import FileLayout, OutputSpec
from skyfan.missing import parse_missing
from skyfan.planning import id_column
from skyfan.pz_form import MIXTURE_OUTPUTS, parse_pz
from skyfan.runs.estimates import ClassColumns, PzColumns
from skyfan.runs.result_rows import OutputColumn, ResultColumns
from skyfan.stages.trained_galaxies import are_marked

ALL = "all"
CUSTOMARY_LABELS = "label"
"""A dataset's column of this name has known classes."""


def result_columns(
    options: RunOptions,
    layout: FileLayout,
    inputs: Sequence[str],
    engine: Engine,
    width: int,
    half_width: float | None = None,
) -> ResultColumns:
    """The columns of the results, after the engine has told that it gives `width` columns.

    `half_width` is that of calibrated intervals, if there are any.

    Raises:
        DatasetError: the dataset lacks a column that is to be kept, or a policy for missing values is for none of the
            model's inputs.
        ModelError: the model has no such output, or one under a name that the results need.
        BadInput: two columns would have one name.
    """
    outputs = _laid_out(engine.outputs(width))
    chosen = _chosen(options, outputs)
    pz = _pz_columns(options, engine, chosen)
    z_column = redshift_column(engine, options.z_column, width) if pz is None else pz.own
    if half_width is not None and pz is None and z_column is None:
        raise BadInput("--calibrate makes intervals of redshifts, and the model gives none; name one with --z-column.")
    classes = _class_columns(options, layout, chosen)
    kept = kept_columns(options, layout, inputs)
    for column in parse_missing(options.missing):
        if column and column not in inputs:
            raise DatasetError(
                f"--missing names the column {column}, which is none of the model's inputs: {', '.join(inputs)}."
            )
    # An output that is the redshift alone is the column z_pred; p(z) and scores are columns as results hold them.
    shown = [*(pz.parts if pz else ()), *([classes.columns] if classes else ())]
    shown += [] if z_column is None else [slice(z_column, z_column + 1)]
    chosen = tuple(one for one in chosen if one.columns not in shown)
    replaces = any(policy.action in ("zero", "quantile") for policy in parse_missing(options.missing).values())
    found = ResultColumns(chosen, kept, z_column, replaces, pz, half_width, classes)
    names = [*found.own, *kept, *(one.name for one in chosen), *(pz.names if pz else ())]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(
            f"two columns of the results would be called {twice}; leave one out with --keep or --outputs, or rename it "
            "in the dataset or the model."
        )
    return found


def _laid_out(specs: Sequence[OutputSpec]) -> tuple[OutputColumn, ...]:
    found, start = [], 0
    for spec in specs:
        found.append(OutputColumn(spec.name, spec.row_shape, slice(start, start + spec.width)))
        start += spec.width
    return tuple(found)


def _pz_columns(options: RunOptions, engine: Engine, chosen: Sequence[OutputColumn]) -> PzColumns | None:
    """Where p(z) is: as the job says, or three outputs that are called as those of a mixture are."""
    by_name = {one.name: one for one in chosen}
    if options.pz is None and (options.z_column is not None or not set(MIXTURE_OUTPUTS) <= by_name.keys()):
        return None
    form = parse_pz(options.pz or "mixture")
    if form.kind == "mixture":
        parts = [by_name[name] for name in MIXTURE_OUTPUTS if name in by_name]
        widths = {one.columns.stop - one.columns.start for one in parts}
        if len(parts) < len(MIXTURE_OUTPUTS) or len(widths) > 1:
            raise ModelError(
                f"--pz mixture takes three outputs of one width, {', '.join(MIXTURE_OUTPUTS)}; the model gives "
                f"{_described(chosen)}. Name them so in the model."
            )
        return PzColumns(form, tuple(one.columns for one in parts), options.point_estimate, engine.z_column)
    one = _of_width(chosen, form.width, f"--pz {form}")
    return PzColumns(form, (one.columns,), options.point_estimate, engine.z_column)


def _class_columns(options: RunOptions, layout: FileLayout, chosen: Sequence[OutputColumn]) -> ClassColumns | None:
    """Where the scores of classes are, and the dataset's column of true ones."""
    if not options.classes:
        if options.labels is not None:
            raise BadInput("--labels names known classes; give the model's own with --classes NAMES or --classes N.")
        return None
    one = _of_width(chosen, len(options.classes), f"--classes with {len(options.classes)} classes")
    labels = label_column(options, layout)
    if labels is not None:
        if labels not in layout.names:
            raise DatasetError(
                f"{layout.uri} has no column {labels}, which --labels names; it has {', '.join(layout.names)}."
            )
        if math.prod(layout.tensor(labels).row_shape) != 1 or layout.tensor(labels).dtype.startswith("complex"):
            raise DatasetError(f"--labels {labels} is no column of one class a row.")
    return ClassColumns(options.classes, one.columns, labels)


def label_column(options: RunOptions, layout: FileLayout) -> str | None:
    """The dataset's column of known classes; None where there is none, or classes are not meant."""
    customary = CUSTOMARY_LABELS if CUSTOMARY_LABELS in layout.names else None
    return (options.labels or customary) if options.classes else None


def _of_width(chosen: Sequence[OutputColumn], width: int | None, option: str) -> OutputColumn:
    """The only output with `width` values a row; None: with more than one."""
    fitting = [one for one in chosen if width in (None, one.columns.stop - one.columns.start)]
    if width is None and len(fitting) > 1:
        fitting = [one for one in fitting if one.columns.stop - one.columns.start > 1]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ModelError(
            f"{option} fits several outputs of the model ({', '.join(one.name for one in fitting)}); name the one that "
            "is meant, and others to keep, with --outputs."
        )
    raise ModelError(f"{option} fits none of the model's outputs; it gives {_described(chosen)}.")


def _described(outputs: Sequence[OutputColumn]) -> str:
    return ", ".join(f"{one.name} of width {one.columns.stop - one.columns.start}" for one in outputs)


def _chosen(options: RunOptions, outputs: tuple[OutputColumn, ...]) -> tuple[OutputColumn, ...]:
    known = {one.name: one for one in outputs}
    for name in options.outputs:
        if name not in known:
            raise ModelError(f"the model has no output {name}, which --outputs names; it gives {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(options.outputs)) or outputs


def kept_columns(options: RunOptions, layout: FileLayout, inputs: Sequence[str]) -> tuple[str, ...]:
    """The dataset's columns in the results: the IDs, then the others; `all`: every one that the model does not take.

    Those of simulated galaxies tell which ones the packaged model was trained on.

    Raises:
        DatasetError: there is no such column, or it cannot be in a table.
    """
    hidden = {*inputs, *layout.validities.values()}
    names = [name for name in layout.names if name not in hidden] if ALL in options.keep else list(options.keep)
    if are_marked(layout) and IN_TRAINING not in inputs:
        names.append(IN_TRAINING)
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
    own = 8 + 8
    kept: int = sum(layout.tensor(name).row_bytes for name in columns.kept)
    parts = [one.columns for one in columns.outputs] + [*(columns.pz.parts if columns.pz else ())]
    parts += [columns.classes.columns] if columns.classes else []
    width: int = sum(part.stop - part.start for part in parts)
    return own + kept + 4 * (width + len(columns.own))
