"""`skyfan partition` leaves a whole dataset or none."""

import pytest

from skyfan.stages.partition_files import split
from skyfan.stages.plan_messages import DatasetCut


def test_stopped_half_way_it_leaves_no_smaller_dataset_behind(sample, tmp_path):
    folder = tmp_path / "parts"

    def stop_at_the_third(done, total):
        if done == 3:
            raise KeyboardInterrupt

    cut = DatasetCut(dataset=str(sample.path), partition_size_bytes=12 * 20504 + 2048)
    with pytest.raises(KeyboardInterrupt):
        split(cut, str(folder), stop_at_the_third)
    assert list(folder.iterdir()) == []
    assert len(split(cut, str(folder), lambda done, total: None)) == 9
