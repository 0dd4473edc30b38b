"""A dataset whose bytes are no longer those that were saved is found by --verify-reads, over several ranks too."""

import json
import os

import pytest

from skyfan.errors import DatasetError
from tests.e2e.support import make_job, run


@pytest.fixture
def damaged(sample):
    """One bit of an image, where neither the file's directory nor its time shows it."""
    status = sample.path.stat()
    with sample.path.open("r+b") as file:
        file.seek(status.st_size // 3)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(sample.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return sample


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_flipped_bit_is_named_with_its_file_and_tensor(damaged, small_model, tmp_path, world_size):
    job = make_job(damaged.path, small_model, tmp_path / "run", world_size=world_size, verify_reads=True)
    with pytest.raises(DatasetError, match=r"sky.pt: the values of tensor '(0|image)' are not those that were saved"):
        run(job)
    # One rank that read all of a tensor commits nothing; where several did, they are told apart by no one of them.
    assert len(list((tmp_path / "run" / "predictions").glob("*"))) == (0 if world_size == 1 else world_size)
    assert (tmp_path / "run" / "summary.json").exists() is (world_size == 1)


def test_without_the_option_it_is_not_noticed(damaged, small_model, tmp_path):
    summary = run(make_job(damaged.path, small_model, tmp_path / "run", world_size=1))
    assert (summary.state, summary.verified_tensors) == ("complete", None)


@pytest.mark.parametrize("world_size", [1, 3])
def test_what_was_compared_is_in_the_records_and_the_summary(sample, small_model, tmp_path, world_size):
    output = tmp_path / "run"
    summary = run(make_job(sample.path, small_model, output, world_size=world_size, verify_reads=True))
    assert summary.verified_tensors == 3  # images, magnitudes, redshifts
    record = json.loads((output / "0.json").read_text())
    assert len({one["tensor"] for one in record["read_checksums"]}) == 3


def test_it_is_no_part_of_the_runs_identity(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=1)
    first = run(job)
    assert run(job.model_copy(update={"verify_reads": True})) == first
