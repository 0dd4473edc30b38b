"""Every format gives the same galaxies: the same rows, the same predictions, and no more bytes than are needed."""

import numpy as np
import pytest

import skyfan
from skyfan import store
from skyfan.curation import upload
from skyfan.formats.dataset import open_dataset
from skyfan.formats.rows import read_batch
from tests.conftest import Sample
from tests.e2e.support import make_job, predictions, run
from tests.formats.samples import WRITERS, columns_of
from tests.store.conftest import BUCKET

BLOCK_BY_BLOCK = ("parquet", "hdf5_chunked")
IN_ONE_RANGE = [form for form in WRITERS if form not in ("npy", *BLOCK_BY_BLOCK)]


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


@pytest.fixture(scope="module")
def of_the_pt_file(_sample: Sample, small_model, tmp_path_factory):
    """The predictions from the `.pt` file on this machine."""
    output = tmp_path_factory.mktemp("pt") / "run"
    run(one_rank(_sample.path, small_model, output))
    return predictions(output)


def one_rank(dataset, model, output):
    """Batches of one size whatever the files are, so that predictions are equal to the last bit."""
    return make_job(dataset, model, output, world_size=1, partition_size_bytes="file")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "s3"])
@pytest.mark.parametrize("form", ["pt", *WRITERS])
def test_one_sky_in_every_format_gives_the_same_predictions_from_the_bytes_that_are_needed(
    sample: Sample, small_model, tmp_path, s3, of_the_pt_file, form, place
):
    columns = columns_of(sample)
    dataset = sample.path if form == "pt" else WRITERS[form](columns, tmp_path / "sky")
    if place == "s3":
        local, dataset = dataset, f"s3://{BUCKET}/data/{form}/"
        upload(local, dataset)
    run(one_rank(dataset, small_model, tmp_path / "run"))
    assert predictions(tmp_path / "run").equals(of_the_pt_file)
    if form not in BLOCK_BY_BLOCK:
        needed_bytes = sum(values.nbytes for values in columns.values())
        (record,) = skyfan.open_run(str(tmp_path / "run")).records
        assert needed_bytes <= record.bytes_read <= 1.05 * needed_bytes


@pytest.mark.parametrize("form", IN_ONE_RANGE)
def test_only_the_needed_bytes_are_read(sample: Sample, tmp_path, form):
    dataset = open_dataset(str(WRITERS[form](columns_of(sample), tmp_path / "sky")))
    stats = store.ReadStats()
    (file,) = dataset.files
    read_batch(file.uri, [file.tensor("image")], 10, 20, etag=file.etag, stats=stats)
    assert stats.bytes_read <= 1.05 * sample.image[10:20].nbytes


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
