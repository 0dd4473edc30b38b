"""A model against extremely randomised trees on the same held-out galaxies.

The 300 trees (Geurts et al. 2006, Mach. Learn. 63, 3) see the magnitudes and the colours between neighbouring bands.
They are a strong and simple photo-z method: a network that does not match them has not learned from its data.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from skyfan.errors import DatasetError, SkyfanError
from skyfan.events import Progress, unwatched
from skyfan.models.loading import LoadedModel
from skyfan.science.metrics import ScienceMetrics, science_metrics
from skyfan.training.samples import Samples, read_samples

TREES = 300
_BATCH = 512


@dataclass(frozen=True)
class Comparison:
    """The metrics of both methods on the same test samples, and the sizes of both sets."""

    training_samples: int
    test_samples: int
    model: ScienceMetrics
    trees: ScienceMetrics


def rendered_split(seed: int, progress: Progress = unwatched) -> tuple[Samples, Samples]:
    """Renders the packaged catalogue's fixed split: 4,000 training and 1,000 test galaxies; `progress` counts them.

    Raises:
        BadInput: GalSim is not installed.
    """
    from skyfan.sky import Subset, load_catalog, simulate, subset_rows

    catalog = load_catalog()
    subsets: tuple[Subset, Subset] = ("train", "test")
    chosen = [catalog.take(subset_rows(len(catalog), subset)) for subset in subsets]
    read = []
    with tempfile.TemporaryDirectory(prefix="skyfan-") as folder:
        for name, part in zip(subsets, chosen, strict=True):
            path = str(Path(folder) / f"{name}.pt")
            simulate(len(part), seed, path, part, progress=progress)
            read.append(read_samples(path))
    return read[0], read[1]


def compare(model: LoadedModel, training: Samples, test: Samples, seed: int = 0) -> Comparison:
    """Trains the trees on `training` and measures both methods on `test`.

    Raises:
        DatasetError: the sets share a galaxy, or no test sample has a finite prediction.
        SkyfanError: scikit-learn is not installed.
    """
    shared = np.intersect1d(_keys(training), _keys(test))
    if len(shared):
        raise DatasetError(f"{len(shared)} galaxies are in the training set and in the test set.")
    predicted_model = predict(model, test)
    predicted_trees = predict_with_trees(training, test, seed)
    of_model = science_metrics(predicted_model, test.redshift)
    of_trees = science_metrics(predicted_trees, test.redshift)
    if of_model is None or of_trees is None:
        raise DatasetError("no test sample has a finite prediction.")
    return Comparison(len(training), len(test), of_model, of_trees)


def predict(model: LoadedModel, samples: Samples) -> NDArray[np.float32]:
    """The model's redshifts, float32 [N]; the first column of its output."""
    tensors = {"image": samples.image, "magnitude": samples.magnitude, "redshift": samples.redshift}
    chosen = [tensors[name] for name in model.bind(tuple(tensors))]
    parts = [
        model.predict(*(torch.from_numpy(tensor[start : start + _BATCH]) for tensor in chosen))[:, 0].cpu()
        for start in range(0, len(samples), _BATCH)
    ]
    predicted: NDArray[np.float32] = torch.cat(parts).numpy()
    return predicted


def predict_with_trees(training: Samples, test: Samples, seed: int = 0) -> NDArray[np.float64]:
    """Redshifts, float64 [N], of the test samples by trees that are fitted to the training samples.

    Raises:
        SkyfanError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as error:
        raise SkyfanError("comparing needs scikit-learn: pip install 'skyfan[compare]'.") from error
    trees = ExtraTreesRegressor(n_estimators=TREES, random_state=seed, n_jobs=-1)
    trees.fit(_features(training), training.redshift)
    predicted: NDArray[np.float64] = trees.predict(_features(test))
    return predicted


def _features(samples: Samples) -> NDArray[np.float32]:
    return np.hstack([samples.magnitude, samples.magnitude[:, :-1] - samples.magnitude[:, 1:]])


def _keys(samples: Samples) -> NDArray[np.void]:
    """One comparable value per galaxy, [N]: the bytes of its redshift and magnitudes."""
    rows = np.ascontiguousarray(np.column_stack([samples.redshift, samples.magnitude]), dtype=np.float32)
    keys: NDArray[np.void] = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    return keys
