"""What a worker of every peer does: the reference's torch model, one thread, over rows of the mapped file.

Mapping the file (instead of sending rows through the peer's own object store) and loading the model once a
process are what a careful user would do; the peers only distribute.
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

# This model's best on one thread (samples a CPU second: 16 → 165, 64 → 200, 128 → 200, 512 → 140).
BATCH_SIZE = 64


@functools.cache
def _loaded(folder: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.set_num_threads(1)
    # weights_only=False: these files were written by this benchmark a moment ago.
    module = torch.load(Path(folder, "model.pickle"), weights_only=False).eval()
    return module, torch.load(Path(folder, "data.pt"), weights_only=False, mmap=True).tensors


def predict(folder: str, start: int, stop: int) -> NDArray[np.float32]:
    """Redshifts of rows [start, stop)."""
    module, (image, magnitude, _) = _loaded(folder)
    with torch.inference_mode():
        outputs = [
            module([image[first : min(first + BATCH_SIZE, stop)], magnitude[first : min(first + BATCH_SIZE, stop)]])
            for first in range(start, stop, BATCH_SIZE)
        ]
        return torch.cat(outputs)[:, 0].numpy()


def predict_and_write(folder: str, output: str, start: int, stop: int) -> int:
    """The same, written as one Parquet file; answers with the number of rows."""
    z = predict(folder, start, stop)
    table = pa.table({"id": np.arange(start, stop), "z_pred": z})
    pq.write_table(table, Path(output, f"{start:07d}.parquet"))
    return len(z)


def spans(samples: int, count: int) -> list[tuple[int, int]]:
    """`count` runs of rows of nearly the same length."""
    edges = np.linspace(0, samples, count + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))


def written(output: str) -> NDArray[np.float32]:
    """All predictions below `output`, in the dataset's order."""
    tables = [pq.read_table(path) for path in Path(output).rglob("*.parquet")]
    table = pa.concat_tables(tables)
    return table["z_pred"].to_numpy()[np.argsort(table["id"].to_numpy())]
