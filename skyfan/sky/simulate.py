"""Renders the rows of a catalogue into a `.pt` dataset of the reference layout, in parallel processes.

Every galaxy has its own random generator, seeded by (seed, number of the galaxy). So the bytes depend neither on the
number of processes nor on the order in which they finish. Workers never import torch.
"""

import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from skyfan.columns import IN_TRAINING
from skyfan.errors import BadInput, SkyfanError
from skyfan.events import Progress, unwatched
from skyfan.formats.torch import TensorFileWriter
from skyfan.sky.profiles import draw_shape
from skyfan.sky.render import render
from skyfan.sky.sdss_catalog import Catalog, load_catalog
from skyfan.sky.survey import SEEING_LN_SCATTER, STAMP_PIXELS, nanomaggies, observe
from skyfan.store import StrPath

SIMULATED = (
    "Simulated pixels: magnitudes and redshifts are those measured by SDSS, the images are rendered from them. "
    "Accuracy on them is not accuracy on the sky."
)
"""What files of simulated galaxies say of themselves."""
TRAINED = (
    " {:,} of these {:,} galaxies render one that Skyfan's packaged model was trained on (in_training_sample): on them "
    "its metrics are not those of new galaxies."
)
"""What they add where that is so."""
_LAYOUT: list[tuple[str, tuple[int, ...]]] = [
    ("float32", (5, STAMP_PIXELS, STAMP_PIXELS)),
    ("float32", (5,)),
    ("float32", ()),
]
_MARK: list[tuple[str, tuple[int, ...]]] = [("bool", ())]
_CHUNK_GALAXIES = 64
_CHUNKS_IN_FLIGHT_PER_PROCESS = 3
_SERIAL_BELOW_GALAXIES = 256


@dataclass(frozen=True)
class Chunk:
    """Galaxies [start, start + len) of a dataset with their catalogue rows: one task of a worker."""

    seed: int
    start: int
    redshift: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    magnitude_error: NDArray[np.float64]
    resampled: NDArray[np.bool_]


@dataclass(frozen=True)
class Rendered:
    """`image` float32 [n, 5, 32, 32] in nanomaggies per pixel, `magnitude` float32 [n, 5], `redshift` float32 [n]."""

    image: NDArray[np.float32]
    magnitude: NDArray[np.float32]
    redshift: NDArray[np.float32]


def simulate(
    n: int,
    seed: int,
    out: StrPath,
    catalog: Catalog | None = None,
    processes: int | None = None,
    progress: Progress = unwatched,
    training: NDArray[np.bool_] | None = None,
) -> None:
    """Renders `n` galaxies into the `.pt` file `out` (a path or URI): image, magnitude, redshift (see `Rendered`).

    Galaxy i is row i of `catalog` (the packaged SDSS galaxies by default) with the measured magnitudes. Beyond the end
    of the catalogue its rows repeat, with new shape, orientation and noise, and magnitudes drawn within the measured
    errors. The pixels hold exactly the flux of the magnitudes in the magnitude tensor. The file is written chunk by
    chunk and appears under its name when it is complete. `processes` defaults to the available CPUs; `progress` counts
    galaxies. `training` [rows of the catalogue] tells which the packaged model was trained on: where any of the
    galaxies renders one of those, the file's note counts them, and its fourth column `in_training_sample` marks them.

    Raises:
        BadInput: `n`, `processes` or `seed` is out of range, or GalSim is not installed.
        SkyfanError: a rendering process died.
    """
    chosen = load_catalog() if catalog is None else catalog
    if n < 1:
        raise BadInput(f"galaxies {n} must be at least 1.")
    if processes is not None and processes < 1:
        raise BadInput(f"processes {processes} must be at least 1.")
    if seed < 0:
        raise BadInput(f"seed {seed} must not be negative.")
    workers = processes or (1 if n < _SERIAL_BELOW_GALAXIES else _cpus())
    done, note = 0, SIMULATED
    marks = np.zeros(n, np.bool_) if training is None else training[np.arange(n) % len(chosen)]
    marked = bool(marks.any())
    if marked:
        note += TRAINED.format(int(marks.sum()), n)
    layout, attributes = (_LAYOUT + _MARK, (IN_TRAINING,)) if marked else (_LAYOUT, ())
    with (
        TensorFileWriter(out, n, layout, note=note, attributes=attributes) as writer,
        closing(_rendered(_chunks(n, seed, chosen), workers)) as parts,
    ):
        for part in parts:
            mark = marks[done : done + len(part.redshift)]
            writer.write(part.image, part.magnitude, part.redshift, *([mark] if marked else []))
            done += len(mark)
            progress(done, n)


def render_chunk(chunk: Chunk) -> Rendered:
    """Renders each galaxy of a chunk with its own random generator."""
    count = len(chunk.redshift)
    images = np.empty((count, 5, STAMP_PIXELS, STAMP_PIXELS), dtype=np.float32)
    magnitudes = np.empty((count, 5), dtype=np.float32)
    for position in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(chunk.seed, spawn_key=(chunk.start + position,)))
        magnitude = chunk.magnitude[position]
        if chunk.resampled[position]:
            magnitude = magnitude + chunk.magnitude_error[position] * rng.standard_normal(5)
        shape = draw_shape(magnitude, float(chunk.redshift[position]), rng)
        seeing = float(np.exp(SEEING_LN_SCATTER * rng.standard_normal()))
        across, along = rng.uniform(-0.5, 0.5, size=2)
        clean = render(shape, nanomaggies(magnitude), seeing, (float(across), float(along)))
        images[position] = observe(clean, rng)
        magnitudes[position] = magnitude
    return Rendered(images, magnitudes, chunk.redshift.astype(np.float32))


def _chunks(n: int, seed: int, catalog: Catalog) -> Iterator[Chunk]:
    for start in range(0, n, _CHUNK_GALAXIES):
        numbers = np.arange(start, min(start + _CHUNK_GALAXIES, n))
        rows = catalog.take(numbers % len(catalog))
        resampled = numbers >= len(catalog)
        yield Chunk(seed, start, rows.redshift, rows.magnitude, rows.magnitude_error, resampled)


def _rendered(chunks: Iterator[Chunk], workers: int) -> Generator[Rendered]:
    """Rendered chunks in order, with a bounded number of them in flight."""
    if workers == 1:
        yield from map(render_chunk, chunks)
        return
    # Spawned, not forked: the caller may hold threads (torch, gRPC) that a fork would copy in mid-step.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _leave_interrupts_to_the_parent)
    in_flight: deque[Future[Rendered]] = deque()
    try:
        for chunk in chunks:
            in_flight.append(pool.submit(render_chunk, chunk))
            if len(in_flight) >= workers * _CHUNKS_IN_FLIGHT_PER_PROCESS:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()
    except BrokenProcessPool as error:
        raise SkyfanError(
            "a rendering process died: out of memory (try fewer processes), or simulate() was called by a script "
            'without `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    """Ignores Ctrl-C, which reaches the whole process group: the parent alone reports what became of the dataset."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cpus() -> int:
    """CPUs that this process may use (on Linux), else all CPUs."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
