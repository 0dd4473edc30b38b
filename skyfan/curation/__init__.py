"""Inspect, clean, pack, fetch and upload datasets."""

from skyfan.curation.cleaning import CleanReport, Rules, clean
from skyfan.curation.fetching import FetchReport, fetch
from skyfan.curation.inspection import DatasetReport, TensorReport, inspect
from skyfan.curation.packing import PackReport, pack
from skyfan.curation.uploading import UploadReport, upload

__all__ = [
    "CleanReport",
    "DatasetReport",
    "FetchReport",
    "PackReport",
    "Rules",
    "TensorReport",
    "UploadReport",
    "clean",
    "fetch",
    "inspect",
    "pack",
    "upload",
]
