"""Labelled samples in memory, for training and for comparing models."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import DatasetError
from skyfan.formats.row_values import finite_rows
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from skyfan.science.sentinels import MAGNITUDE, known_redshifts, sentinels

Array = NDArray[np.float32]
NEEDED = ("image", "magnitude", "redshift")
_PIECE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Samples:
    """`image` float32 [N, C, H, W], `magnitude` float32 [N, M], `redshift` float32 [N]; all known.

    `dropped` counts the samples of the file that were left out: a value is not finite or a sentinel.
    """

    image: Array
    magnitude: Array
    redshift: Array
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.redshift)

    def take(self, rows: NDArray[np.intp]) -> "Samples":
        """The given rows, copied."""
        return Samples(self.image[rows], self.magnitude[rows], self.redshift[rows])

    def sha256(self) -> str:
        """Of all values."""
        digest = hashlib.sha256()
        for values in (self.image, self.magnitude, self.redshift):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


def read_samples(uri: str) -> Samples:
    """All samples of a dataset whose image, magnitudes and redshift are known.

    Raises:
        DatasetError: a tensor is missing or has another shape, or no sample is usable.
    """
    file = open_tensorfile(uri)
    missing = [name for name in NEEDED if name not in file.names]
    if missing:
        raise DatasetError(f"{uri} has no tensor {missing[0]!r}; training and comparing need {', '.join(NEEDED)}.")
    image, magnitude, redshift = (
        np.ascontiguousarray(read_rows(file, name, 0, file.samples), dtype=np.float32) for name in NEEDED
    )
    if image.ndim != 4 or magnitude.ndim != 2 or redshift.size != len(image):
        shapes = ", ".join(str(list(array.shape)) for array in (image, magnitude, redshift))
        raise DatasetError(f"{uri} holds shapes {shapes}; needed are [N, C, H, W], [N, M] and [N].")
    redshift = redshift.reshape(-1)
    usable = finite_rows(image) & finite_rows(magnitude) & ~sentinels(MAGNITUDE, magnitude).any(axis=1)
    usable &= np.isfinite(known_redshifts(redshift))
    if not usable.any():
        raise DatasetError(f"{uri} has no sample with known image, magnitudes and redshift.")
    samples, rows = Samples(image, magnitude, redshift), np.flatnonzero(usable)
    dropped = len(samples) - len(rows)
    return replace(samples.take(rows), dropped=dropped) if dropped else samples


def read_digest(uri: str) -> str:
    """SHA-256 of the dataset's bytes, read piece by piece."""
    size, digest = store.head(uri).size_bytes, hashlib.sha256()
    for start in range(0, size, _PIECE_BYTES):
        digest.update(store.read_range(uri, start, min(start + _PIECE_BYTES, size)))
    return digest.hexdigest()


def split_by_galaxy(
    redshift: Array, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for training and rows for validation; the latter hold about `fraction` of the galaxies.

    A dataset may hold several renderings of one galaxy. Rows of equal redshift go to the same side, so that no galaxy
    of the validation set was trained on.

    Raises:
        DatasetError: there are too few galaxies.
    """
    values, galaxy = np.unique(redshift, return_inverse=True)
    held_out = rng.permutation(len(values))[: round(fraction * len(values))]
    in_validation = np.isin(galaxy, held_out)
    train, validation = np.flatnonzero(~in_validation), np.flatnonzero(in_validation)
    if not len(train) or not len(validation):
        raise DatasetError(
            f"{len(values)} different galaxies are too few to hold {fraction:.0%} out for validation; "
            "use more galaxies or a larger --validation."
        )
    return train, validation
