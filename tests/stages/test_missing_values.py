"""What becomes of missing values in a model's inputs."""

import numpy as np
import pytest

from skyfan.errors import BadInput, DatasetError
from skyfan.job import Job
from skyfan.stages.missing_values import MissingValues

IMAGE = np.ones((4, 2, 3), np.float32)
IMAGE[1, 0, 0] = np.nan
MAGNITUDE = np.array([[20, 21, 22], [20, 99, 22], [99, 99, 99], [20, 21, np.inf]], np.float32)


def applied(**options):
    policies = MissingValues(Job(dataset="x.pt", **options))
    tensors, reasons, replaced = policies.apply(("image", "magnitude"), (IMAGE, MAGNITUDE), 100)
    return policies, tensors, reasons.tolist(), replaced.tolist()


def test_by_default_a_row_with_nan_is_skipped_and_sentinels_are_only_counted():
    policies, tensors, reasons, replaced = applied()
    assert reasons == [None, "NaN or infinite values in image", None, "NaN or infinite values in magnitude"]
    assert replaced == [0] * 4
    assert policies.undeclared == {"magnitude": 2}
    assert tensors[0][1].max() == tensors[1][3].max() == 0
    assert np.isnan(IMAGE[1, 0, 0])


def test_each_column_has_its_policy():
    policies, tensors, reasons, replaced = applied(missing="image=zero,magnitude=quantile:1", sentinel=[99])
    assert reasons == [None, None, "values that stand for missing ones in magnitude", None]
    assert replaced == [0, 2, 0, 1]
    assert tensors[0][1, 0].tolist() == [0, 1, 1]
    assert tensors[1][[1, 3]].tolist() == [[20, 22, 22], [20, 21, 21]]
    assert policies.replaced == {"image": 1, "magnitude": 2}
    assert (policies.samples_replaced, policies.undeclared) == (2, {})


def test_fail_names_sample_column_and_option():
    with pytest.raises(DatasetError, match=r"sample 101 has missing values in image, and --missing is fail; choose"):
        applied(missing="fail")


def test_whole_numbers_have_sentinels_too():
    policies = MissingValues(Job(dataset="x.pt", sentinel=[-1, 0.5, 300], missing="zero"))
    counts = np.array([[3], [-1]], np.int8)
    tensors, reasons, replaced = policies.apply(("counts",), (counts,), 0)
    assert (tensors[0].tolist(), reasons.tolist(), replaced.tolist()) == ([[3], [0]], [None, None], [0, 1])


@pytest.mark.parametrize("text", ["drop", "quantile", "quantile:2", "image=", "zero,fail", "image=zero,image=skip"])
def test_other_words_are_refused(text):
    with pytest.raises(BadInput, match="missing is"):
        Job.checked({"dataset": "x.pt", "missing": text})
