"""Parquet's nested columns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyfan.errors import DatasetError
from skyfan.formats.dataset import open_dataset


@pytest.mark.parametrize("nullable", [True, False])
def test_a_member_of_a_struct_that_is_missing_has_no_value(tmp_path, nullable):
    for kind in (pa.float32(), pa.int64()):
        rows = pa.array([{"x": 1}, None, {"x": 3}], pa.struct([pa.field("x", kind, nullable=nullable)]))
        pq.write_table(pa.table({"s": rows}), tmp_path / f"{kind}.parquet")
    found = open_dataset(str(tmp_path / "float.parquet")).read(0, 3)
    np.testing.assert_array_equal(found["s.x"], np.array([1, np.nan, 3], "f4"))
    with pytest.raises(DatasetError, match=r"1 missing values in column 's\.x' of int64"):
        open_dataset(str(tmp_path / "int64.parquet")).read(0, 3)
