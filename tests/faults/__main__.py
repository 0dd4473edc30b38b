"""`python -m tests.faults [--cell TARGET/FAULT/MOMENT] [--seed N] [--times N]`: the matrix, printed as it comes."""

import argparse
import fnmatch
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import make_sample, make_small_model
from tests.faults.cells import all_cells
from tests.faults.runner import SAMPLES, Matrix
from tests.faults.s3_server import s3_server


def main() -> int:
    """Prints a line a cell; 1 where any is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--cell", default="*", help="a cell, or a pattern such as 'process/kill/*'")
    parser.add_argument("--seed", type=int, default=1, help="which rank, how many requests, how much room is left")
    parser.add_argument("--times", type=int, default=1, help="each cell so often, with seeds that follow")
    asked = parser.parse_args()
    cells = [cell for cell in all_cells() if fnmatch.fnmatch(str(cell), asked.cell)]
    red = 0
    with tempfile.TemporaryDirectory() as folder, s3_server() as environment:
        os.environ.update(environment)
        where = Path(folder)
        dataset = make_sample(where / "data.pt", SAMPLES).path
        matrix = Matrix(where, dataset, make_small_model(where / "model.pt"), environment)
        for seed in range(asked.seed, asked.seed + asked.times):
            for cell in cells:
                begin_s = time.monotonic()
                wrong = matrix.run(cell, seed)
                red += bool(wrong)
                print(f"{'RED  ' if wrong else 'green'} {cell!s:42} seed {seed} {time.monotonic() - begin_s:5.1f} s")
                for sentence in wrong:
                    print(f"      {sentence}")
                sys.stdout.flush()
    print(f"{len(cells) * asked.times} cells, {red} red")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main())
