"""Inspect, clean, pack and upload datasets."""

from skyfan.curation.cleaning import CleanReport, Rules, clean
from skyfan.curation.inspection import DatasetReport, TensorReport, inspect
from skyfan.curation.packing import PackReport, pack
from skyfan.curation.uploading import UploadReport, upload

__all__ = [
    "CleanReport",
    "DatasetReport",
    "PackReport",
    "Rules",
    "TensorReport",
    "UploadReport",
    "clean",
    "inspect",
    "pack",
    "upload",
]
