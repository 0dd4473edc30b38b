"""A file's columns as a job means them: other names, shapes, axes, bands, crops and scales."""

import math
from collections.abc import Callable
from dataclasses import replace

from skyfan.columns import (
    AXES,
    REDSHIFT,
    ColumnOptions,
    parse_axes,
    parse_crop,
    parse_scale,
    parse_settings,
    parse_shape,
    parse_sizes,
)
from skyfan.errors import DatasetError
from skyfan.layout import FileLayout, StoredForm, TensorSpec


def mapped(file: FileLayout, options: ColumnOptions) -> FileLayout:
    """The file's layout with the job's names and layouts.

    Raises:
        DatasetError: there is no such column, or it cannot be read so.
    """
    names = parse_settings(options.inputs)
    if options.target:
        names[REDSHIFT] = options.target
    columns = {spec.name: spec for spec in _renamed(file, names)}
    steps: list[tuple[str, tuple[str, ...], Callable[[TensorSpec, str], TensorSpec]]] = [
        ("--shape", options.shape, _shaped),
        ("--axes", options.axes, _with_axes),
        ("--bands", options.bands, _with_bands),
        ("--crop", options.crop, _cropped),
        ("--scale", options.scale, _scaled),
    ]
    for option, given, step in steps:
        for name, text in parse_settings(given).items():
            if name not in columns:
                raise DatasetError(f"{option} names the column {name!r}; {file.uri} holds {', '.join(columns)}.")
            try:
                columns[name] = step(columns[name], text)
            except ValueError as error:
                raise DatasetError(f"{option} {name}={text} does not fit {file.uri}: {error}.") from error
    return file.model_copy(update={"tensors": tuple(columns.values())})


def _renamed(file: FileLayout, names: dict[str, str]) -> list[TensorSpec]:
    """Columns under the job's names; one whose name is taken by another is left out."""
    theirs = {column: name for name, column in names.items()}
    for name, column in names.items():
        if column not in file.names:
            raise DatasetError(f"{file.uri} has no column {column!r} for {name}; it holds {', '.join(file.names)}.")
    return [
        replace(spec, name=theirs.get(spec.name, spec.name), source=spec.source or spec.name)
        for spec in file.tensors
        if spec.name in theirs or spec.name not in names
    ]


def _stored(spec: TensorSpec) -> StoredForm:
    if spec.dtype == "string":
        raise ValueError("the column is text")
    return spec.stored or StoredForm(spec.dtype, spec.row_shape)


def _restored(spec: TensorSpec, stored: StoredForm, dtype: str | None = None) -> TensorSpec:
    shape = (spec.samples, *stored.read_shape)
    plain = stored == StoredForm(dtype or spec.dtype, stored.row_shape)
    return replace(spec, shape=shape, dtype=dtype or spec.dtype, stored=None if plain else stored)


def _shaped(spec: TensorSpec, text: str) -> TensorSpec:
    shape, stored = parse_shape(text), _stored(spec)
    if math.prod(shape) != math.prod(stored.row_shape):
        raise ValueError(f"a sample has {math.prod(stored.row_shape)} values, not {math.prod(shape)}")
    if spec.order != tuple(range(len(spec.order))):
        raise ValueError("its values do not lie in the order of its shape")
    return _restored(replace(spec, order=tuple(range(len(shape)))), replace(stored, row_shape=shape))


def _with_axes(spec: TensorSpec, text: str) -> TensorSpec:
    axes, stored = parse_axes(text), _stored(spec)
    if len(stored.row_shape) != len(AXES):
        raise ValueError(f"a sample has {len(stored.row_shape)} dimensions, not {len(AXES)}")
    shape = tuple(stored.row_shape[axes.index(axis)] for axis in AXES)
    order = tuple(AXES.index(axes[axis]) for axis in spec.order)
    return _restored(replace(spec, order=order), replace(stored, row_shape=shape))


def _with_bands(spec: TensorSpec, text: str) -> TensorSpec:
    return _restored(spec, replace(_stored(spec), bands=parse_sizes(text)))


def _cropped(spec: TensorSpec, text: str) -> TensorSpec:
    return _restored(spec, replace(_stored(spec), crop=parse_crop(text)))


def _scaled(spec: TensorSpec, text: str) -> TensorSpec:
    """Of what is read so far; the result is float32, or float64 where it is that already."""
    scale, offset = parse_scale(text)
    stored = _stored(spec)
    both = replace(stored, scale=stored.scale * scale, zero=stored.zero * scale + offset)
    return _restored(spec, both, "float64" if spec.dtype == "float64" else "float32")
