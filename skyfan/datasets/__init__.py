"""Look into datasets, clean them, bring them to where they are needed."""

from skyfan.datasets.cleaning import CleanReport, Rules, clean
from skyfan.datasets.inspection import DatasetReport, TensorReport, inspect
from skyfan.datasets.uploading import UploadReport, upload

__all__ = [
    "CleanReport",
    "DatasetReport",
    "Rules",
    "TensorReport",
    "UploadReport",
    "clean",
    "inspect",
    "upload",
]
