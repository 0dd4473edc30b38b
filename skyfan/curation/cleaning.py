"""Copies a dataset without its unusable samples, and lists what was dropped and why."""

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from skyfan import store
from skyfan.curation.object_files import IMAGE
from skyfan.curation.sample_blocks import Block, blocks, digests, repeats
from skyfan.errors import BadInput
from skyfan.events import Progress, unwatched
from skyfan.formats.registry import open_file
from skyfan.formats.row_values import finite_rows, real_values
from skyfan.formats.torch import TensorFileWriter, attribute_names
from skyfan.layout import FileLayout
from skyfan.science.sentinels import MAGNITUDE, REDSHIFT, SENTINELS, sentinels
from skyfan.store import StrPath


class Rules(BaseModel):
    """The rules by which a sample is unusable. A rule about a tensor that the dataset lacks does not apply."""

    nonfinite: bool = True
    brightest_mag: float = 5.0
    faintest_mag: float = 30.0
    minimum_redshift: float = 0.0
    """Samples at or below it are dropped; -inf keeps all."""
    maximum_redshift: float = 10.0
    blank_images: bool = True
    duplicates: bool = True


class CleanReport(BaseModel):
    """`dropped` maps each reason to the dropped samples' indices in the source; each sample has one reason."""

    source: str
    output: str
    samples: int
    kept: int
    rules: Rules
    dropped: dict[str, list[int]]


def clean(source: StrPath, output: StrPath, rules: Rules | None = None, progress: Progress = unwatched) -> CleanReport:
    """Writes the usable samples of `source` to `output`, and the report to `output`.json (paths or URIs).

    The source is read twice, block by block. `output` appears only when it is complete. `progress` counts samples read.

    Raises:
        BadInput: `output` is the source, no sample is usable, or a copy would lose the tensors' names.
        DatasetError: the source is not a dataset.
        LocationError: the source cannot be read.
    """
    file = open_file(source)
    attributes = _checked_names(file)
    target = os.fspath(output)
    if store.canonical(target) == file.uri:
        raise BadInput(f"{target} is the source itself; name another file for the cleaned copy.")
    chosen = rules or Rules()
    reasons = _reasons(file, chosen, progress)
    kept = ~np.logical_or.reduce([np.zeros(file.samples, dtype=bool), *reasons.values()])
    if not kept.any():
        raise BadInput(f"{file.uri} has no usable sample ({_summary(reasons)}); nothing was written.")
    _write(file, target, kept, attributes, progress)
    report = CleanReport(
        source=file.uri,
        output=target,
        samples=file.samples,
        kept=int(kept.sum()),
        rules=chosen,
        dropped={reason: np.flatnonzero(hit).tolist() for reason, hit in reasons.items() if hit.any()},
    )
    store.put(f"{target}.json", report.model_dump_json(indent=2).encode())
    return report


def _summary(reasons: dict[str, NDArray[np.bool_]]) -> str:
    return ", ".join(f"{reason}: {int(hit.sum())}" for reason, hit in reasons.items() if hit.any())


def _reasons(file: FileLayout, rules: Rules, progress: Progress) -> dict[str, NDArray[np.bool_]]:
    """Reason → mask of samples [N]; a sample counts for the first reason that applies to it."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    seen = [np.empty(0, dtype="V16")]
    for block in blocks(file):
        for reason, hit in _faults(block, rules):
            found.setdefault(reason, []).append(hit)
        if rules.duplicates:
            seen.append(digests(block))
        progress(block.stop, 2 * file.samples)
    masks = {reason: np.concatenate(hits) for reason, hits in found.items()}
    if rules.duplicates:
        masks["duplicate"] = np.zeros(file.samples, dtype=bool)
        masks["duplicate"][repeats(np.concatenate(seen))] = True
    taken = np.zeros(file.samples, dtype=bool)
    for reason, hit in masks.items():
        masks[reason] = hit & ~taken
        taken |= hit
    return masks


def _faults(block: Block, rules: Rules) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The reason and the samples [block] that break the rule, for each rule that applies to this dataset."""
    if rules.nonfinite:
        for name, rows in block.rows.items():
            yield f"NaN or infinity in {name}", ~finite_rows(rows)
    ranges = {
        MAGNITUDE: (rules.brightest_mag, rules.faintest_mag),
        REDSHIFT: (rules.minimum_redshift, rules.maximum_redshift),
    }
    for name, (low, high) in ranges.items():
        if name in block.rows:
            values = real_values(block.rows[name])
            outside: NDArray[np.bool_] = (values <= low) | (values >= high)
            yield f"{name} unknown ({SENTINELS[name]})", np.any(outside & sentinels(name, values), axis=1)
            yield f"{name} not within {low:g} to {high:g}", np.any(outside, axis=1)
    if rules.blank_images and IMAGE in block.rows:
        image = real_values(block.rows[IMAGE])
        yield "image of one single value", (image == image[:, :1]).all(axis=1)


def _write(
    file: FileLayout, output: StrPath, kept: NDArray[np.bool_], attributes: tuple[str, ...], progress: Progress
) -> None:
    specs = file.tensors
    layout = [(spec.dtype, spec.row_shape) for spec in specs]
    with TensorFileWriter(output, int(kept.sum()), layout, note=file.note, attributes=attributes) as writer:
        for block in blocks(file):
            chosen = kept[block.start : block.stop]
            writer.write(*(rows[chosen] for rows in block.rows.values()))
            progress(file.samples + block.stop, 2 * file.samples)


def _checked_names(file: FileLayout) -> tuple[str, ...]:
    """The columns that are attributes; refuses a source whose tensor names a copy would lose."""
    attributes = attribute_names(file)
    if attributes is None:
        raise BadInput(
            f"{file.uri} names its tensors {', '.join(file.names)}, which a TensorDataset cannot keep; "
            "save it as a TensorDataset first."
        )
    return attributes
