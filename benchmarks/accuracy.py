"""What reduced precision costs in accuracy: the packaged demo model on the galaxies that it has never seen.

`python -m benchmarks.accuracy` renders them as the demo does and writes benchmarks/results/accuracy.json.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.part import heading, options_of, parser, save, with_machine
from skyfan.cli.demo import make_demo_dataset
from skyfan.engines import create_engine
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from skyfan.job import RunOptions
from skyfan.models import load_model
from skyfan.science.metrics import delta_z
from skyfan.stages.calibration import first_samples

REDUCED = ("int8", "bf16")


def nmad(z_pred: NDArray[np.float32], z_spec: NDArray[np.float32]) -> float:
    """1.48 · median|Δz − median Δz|."""
    delta = delta_z(z_pred, z_spec)
    return float(1.48 * np.median(np.abs(delta - np.median(delta))))


def measure(dataset: str) -> dict[str, Any]:
    """NMAD of each precision, and how far its redshifts are from float32's."""
    model, file = load_model("demo"), open_tensorfile(dataset)
    image, magnitude, z_spec = (read_rows(file, name, 0, file.samples) for name in ("image", "magnitude", "redshift"))
    exact = create_engine(model, RunOptions(engine="torch"), threads=1).predict([image, magnitude])[:, 0]
    found: dict[str, Any] = {"samples": file.samples, "float32": {"nmad": nmad(exact, z_spec)}}
    for precision in REDUCED:
        options = RunOptions.model_validate({"engine": "openvino", "precision": precision})
        samples = functools.partial(first_samples, file, model, options)
        engine = create_engine(model, options, threads=1, samples=samples)
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


def markdown(found: dict[str, Any]) -> str:
    """The same as a table."""
    about = f"Demo model on {found['samples']} galaxies that it was not trained on; torch's float32 is exact."
    lines = heading(found, "Accuracy of reduced precision", about)
    lines += ["| precision | NMAD | relative change | samples within 0.002 | 99.9% within | largest |"]
    lines += ["|---|---|---|---|---|---|", f"| float32 | {found['float32']['nmad']:.6f} | | | | |"]
    for name in REDUCED:
        row = found[name]
        lines.append(
            f"| {name} | {row['nmad']:.6f} | {row['nmad_relative_change']:+.3%} | {row['within_0.002']:.1%} "
            f"| {row['p999_abs']:.1e} | {row['max_abs']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures on the galaxies of the demo; `--samples` and `--rounds` change nothing here."""
    options = options_of(parser(__doc__).parse_args())
    with tempfile.TemporaryDirectory(prefix="skyfan-bench-") as folder:
        dataset = str(Path(folder, "demo.pt"))
        make_demo_dataset(dataset, quiet=True)
        found = with_machine(lambda: measure(dataset))
    save(options, "accuracy", found, markdown(found))


if __name__ == "__main__":
    main()
