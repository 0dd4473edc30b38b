"""Commands that compute do not import pandas, which pyarrow would, and pandas can be imported all the same."""

import subprocess
import sys

CHILD = """
import sys
from skyfan.arrow_import import import_arrow_without_pandas
import_arrow_without_pandas()
import numpy as np, pyarrow as pa
table = pa.table({"z": np.arange(3.0)})
assert table.filter(np.array([True, False, True]))["z"].to_numpy().tolist() == [0.0, 2.0]
assert "pandas" not in sys.modules
import pandas
assert pandas.Series([1]).sum() == 1
"""


def test_pyarrow_converts_without_pandas():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
