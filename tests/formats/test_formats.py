"""Every format gives the same galaxies: the same rows, the same predictions, and no more bytes than are needed."""

import numpy as np
import pytest

from skyfan import store
from skyfan.curation import upload
from skyfan.formats.dataset import open_dataset
from skyfan.formats.rows import read_batch
from tests.conftest import Sample
from tests.e2e.support import make_job, predictions, run
from tests.formats.samples import WRITERS, columns_of
from tests.store.conftest import BUCKET

NO_RANGES = ("npy", "parquet", "hdf5_chunked")


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_rows_are_those_that_were_written(sample: Sample, tmp_path, form):
    columns = columns_of(sample)
    dataset = open_dataset(str(WRITERS[form](columns, tmp_path / "sky")))
    assert dataset.samples == len(sample.redshift)
    for start, stop in ((0, dataset.samples), (31, 72), (100, 101), (5, 5)):
        rows = dataset.read(start, stop, tuple(columns))
        for name, values in columns.items():
            np.testing.assert_array_equal(rows[name], values[start:stop])
            assert rows[name].dtype == values.dtype


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_predictions_are_those_of_the_pt_file(sample: Sample, small_model, tmp_path, form):
    data = WRITERS[form](columns_of(sample), tmp_path / "sky")
    tables = {}
    for name, dataset in (("pt", sample.path), ("other", data)):
        # batches of one size whatever the cuts are, so that the predictions are equal to the last bit
        run(make_job(dataset, small_model, tmp_path / name, world_size=1, partition_size_bytes="file"))
        tables[name] = predictions(tmp_path / name)
    assert tables["other"].equals(tables["pt"])


@pytest.mark.parametrize("form", [form for form in WRITERS if form not in NO_RANGES])
def test_only_the_needed_bytes_are_read(sample: Sample, tmp_path, form):
    dataset = open_dataset(str(WRITERS[form](columns_of(sample), tmp_path / "sky")))
    stats = store.ReadStats()
    (file,) = dataset.files
    read_batch(file.uri, [file.tensor("image")], 10, 20, etag=file.etag, stats=stats)
    assert stats.bytes_read <= 1.05 * sample.image[10:20].nbytes


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_rows_are_the_same_from_s3(sample: Sample, tmp_path, s3, form):
    columns = columns_of(sample)
    uri = f"s3://{BUCKET}/data/"
    upload(WRITERS[form](columns, tmp_path / "sky"), uri)
    dataset = open_dataset(uri)
    rows = dataset.read(31, 72, tuple(columns))
    for name, values in columns.items():
        np.testing.assert_array_equal(rows[name], values[31:72])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "fits", "hdf5"])
def test_ids_of_a_file_come_out_as_they_are(sample: Sample, small_model, tmp_path, form):
    numbers = np.arange(len(sample.redshift)) + 2**60
    names = np.char.add("SDSS J", numbers.astype("U")).astype("S")
    for kind, values in (("numbers", numbers), ("names", names)):
        data = WRITERS[form](columns_of(sample) | {"object": values}, tmp_path / kind)
        run(make_job(data, small_model, tmp_path / f"{kind}-run", id="object"))
        found = predictions(tmp_path / f"{kind}-run")["object"].to_pylist()
        assert found == [value.decode() if kind == "names" else value for value in values.tolist()]
