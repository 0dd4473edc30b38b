"""A copy of a dataset without the samples that cannot be used, and an account of what was dropped and why."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from skyfan import store
from skyfan.curation._blocks import Block, Progress, blocks, digests, nonfinite_samples, numbers, repeats
from skyfan.errors import BadInput
from skyfan.formats.torch import TensorFileWriter, open_tensorfile, reference_names
from skyfan.layout import FileLayout
from skyfan.store import StrPath

IMAGE, MAGNITUDE, REDSHIFT = "image", "magnitude", "redshift"


class Rules(BaseModel):
    """What makes a sample unusable. Rules about a tensor that the dataset lacks do not apply."""

    nonfinite: bool = True
    brightest_mag: float = 5.0
    faintest_mag: float = 30.0
    minimum_redshift: float = 0.0
    """Samples at or below are dropped; -inf keeps all."""
    maximum_redshift: float = 10.0
    blank_images: bool = True
    duplicates: bool = True


class CleanReport(BaseModel):
    """`dropped` maps each reason to the sample indices in the source that it dropped; a sample has one reason."""

    source: str
    output: str
    samples: int
    kept: int
    rules: Rules
    dropped: dict[str, list[int]]


def clean(
    source: StrPath, output: StrPath, rules: Rules | None = None, progress: Progress | None = None
) -> CleanReport:
    """Write the usable samples of `source` to `output`, and what was dropped to `output`.json (paths or URIs).

    The source is read twice, block by block. `output` appears only when complete. Raises `BadInput` when
    `output` is the source or no sample is usable, `DatasetError` and `LocationError` as `open_tensorfile` does.
    """
    file = open_tensorfile(source)
    _check_names(file)
    target = os.fspath(output)
    if target == file.uri or store.local_path(target) == Path(file.uri):
        raise BadInput(f"{target} is the source itself; name another file for the cleaned copy.")
    chosen = rules or Rules()
    reasons = _reasons(file, chosen, progress)
    kept = ~np.logical_or.reduce([np.zeros(file.samples, dtype=bool), *reasons.values()])
    if not kept.any():
        raise BadInput(f"{file.uri} has no usable sample ({_summary(reasons)}); nothing was written.")
    _write(file, target, kept, progress)
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


def _reasons(file: FileLayout, rules: Rules, progress: Progress | None) -> dict[str, NDArray[np.bool_]]:
    """One mask of samples a reason; the first reason that applies to a sample takes it."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    seen = [np.empty(0, dtype="V16")]
    for block in blocks(file):
        for reason, hit in _faults(block, rules):
            found.setdefault(reason, []).append(hit)
        if rules.duplicates:
            seen.append(digests(block))
        if progress:
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
    """Each rule that applies to this dataset's tensors, with the samples that break it."""
    if rules.nonfinite:
        for name, rows in block.rows.items():
            yield f"NaN or infinity in {name}", nonfinite_samples(rows)
    if MAGNITUDE in block.rows:
        inside = _within(block.rows[MAGNITUDE], rules.brightest_mag, rules.faintest_mag)
        yield f"magnitude not within {rules.brightest_mag:g} to {rules.faintest_mag:g}", ~inside
    if REDSHIFT in block.rows:
        inside = _within(block.rows[REDSHIFT], rules.minimum_redshift, rules.maximum_redshift)
        yield f"redshift not within {rules.minimum_redshift:g} to {rules.maximum_redshift:g}", ~inside
    if rules.blank_images and IMAGE in block.rows:
        image = numbers(block.rows[IMAGE])
        yield "image of one single value", (image == image[:, :1]).all(axis=1)


def _within(rows: NDArray[np.generic], low: float, high: float) -> NDArray[np.bool_]:
    """Samples whose values all lie above `low` and below `high`; NaN is another rule's business."""
    values = numbers(rows)
    outside: NDArray[np.bool_] = np.any((values <= low) | (values >= high), axis=1)
    return ~outside


def _write(file: FileLayout, output: StrPath, kept: NDArray[np.bool_], progress: Progress | None) -> None:
    specs = file.tensors
    with TensorFileWriter(output, int(kept.sum()), [(spec.dtype, spec.row_shape) for spec in specs]) as writer:
        for block in blocks(file):
            chosen = kept[block.start : block.stop]
            writer.write(*(rows[chosen] for rows in block.rows.values()))
            if progress:
                progress(file.samples + block.stop, 2 * file.samples)


def _check_names(file: FileLayout) -> None:
    """A cleaned copy names tensors by position; one whose names would be lost is refused rather than renamed."""
    shapes = {str(position): spec.shape for position, spec in enumerate(file.tensors)}
    names = reference_names(shapes)
    if list(file.names) != [names.get(position, position) for position in shapes]:
        raise BadInput(
            f"{file.uri} names its tensors {', '.join(file.names)}, which a TensorDataset cannot keep; "
            "save it as a TensorDataset first."
        )
