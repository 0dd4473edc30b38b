"""What reduced precision costs in accuracy: the packaged demo model on a dataset with known redshifts.

`python -m benchmarks.accuracy DATASET.pt` prints JSON and writes benchmarks/results/accuracy.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.executor.calibration import first_samples
from skyfan.dataset import read_layout
from skyfan.engine import create_engine
from skyfan.metrics import delta_z
from skyfan.models import load_model
from skyfan.plan import RunOptions
from skyfan.tensorfile import open_tensorfile, read_rows


def nmad(z_pred: NDArray[np.float32], z_spec: NDArray[np.float32]) -> float:
    """1.48 · median|Δz − median Δz|."""
    delta = delta_z(z_pred, z_spec)
    return float(1.48 * np.median(np.abs(delta - np.median(delta))))


def measure(dataset: str) -> dict[str, Any]:
    """NMAD of each precision, and how far its redshifts are from float32's."""
    model, file, layout = load_model("demo"), open_tensorfile(dataset), read_layout(dataset)
    image, magnitude, z_spec = (read_rows(file, name, 0, file.samples) for name in ("image", "magnitude", "redshift"))
    exact = create_engine(model, RunOptions(engine="torch"), threads=1).predict([image, magnitude])[:, 0]
    found: dict[str, Any] = {"samples": file.samples, "float32": {"nmad": nmad(exact, z_spec)}}
    for precision in ("int8", "bf16"):
        options = RunOptions.model_validate({"engine": "openvino", "precision": precision})
        engine = create_engine(model, options, threads=1, samples=lambda: first_samples(layout, model))
        z = engine.predict([image, magnitude])[:, 0]
        difference = np.abs(z - exact)
        found[precision] = {
            "nmad": nmad(z, z_spec),
            "nmad_relative_change": nmad(z, z_spec) / nmad(exact, z_spec) - 1,
            "p999_abs": float(np.quantile(difference, 0.999)),
            "within_0.002": float((difference <= 0.002).mean()),
            "max_abs": float(difference.max()),
            "deviation_in_record": engine.info.deviation,
        }
    return found


def main() -> None:
    """Measures one dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    found = measure(str(parser.parse_args().dataset))
    (Path(__file__).parent / "results" / "accuracy.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
