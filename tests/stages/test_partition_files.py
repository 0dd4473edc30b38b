"""`skyfan partition` leaves a whole dataset or none."""

import pytest

from skyfan.stages.partition_files import write_partitions


def test_stopped_half_way_it_leaves_no_smaller_dataset_behind(sample, tmp_path):
    folder = tmp_path / "parts"

    def stop_at_the_third(done, total):
        if done == 3:
            raise KeyboardInterrupt

    whole = str(sample.path), 12 * 20504 + 2048, str(folder)
    with pytest.raises(KeyboardInterrupt):
        write_partitions(*whole, stop_at_the_third)
    assert list(folder.iterdir()) == []
    assert len(write_partitions(*whole, lambda done, total: None)) == 9
