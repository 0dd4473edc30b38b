"""Objects by URI: plain paths, `file://`, `s3://`, `gs://`, `az://`, `https://`, `hf://`, and this process's `memory://`.

Calls block and are thread-safe; S3 clients are made once per bucket. S3 honours `AWS_ENDPOINT_URL(_S3)`,
`AWS_REGION`, `AWS_PROFILE` and the rest of boto3's credential chain. Errors are `LocationError` (fix the
address, the rights or the network) and `Transient` (throttling, a broken connection: try again).
"""

from skyfan.store._api import (
    copy_in,
    delete,
    exists,
    head,
    list,  # noqa: A004 - read as store.list
    put,
    put_new,
    read,
    read_into,
    read_range,
    read_tail,
    require_create_only,
    server_time,
)
from skyfan.store._calls import abandon_calls
from skyfan.store._local import named_errors, temporary_beside
from skyfan.store._location import StrPath, canonical, join, local_path
from skyfan.store._range_file import RangeFile
from skyfan.store._types import (
    DANGLING_LINK,
    FOLDER,
    LINKED_FOLDER,
    AlreadyExists,
    NotFound,
    NotListed,
    ObjectInfo,
    PreconditionFailed,
    Progress,
    ReadStats,
)

__all__ = [
    "DANGLING_LINK",
    "FOLDER",
    "LINKED_FOLDER",
    "AlreadyExists",
    "NotFound",
    "NotListed",
    "ObjectInfo",
    "PreconditionFailed",
    "Progress",
    "RangeFile",
    "ReadStats",
    "StrPath",
    "abandon_calls",
    "canonical",
    "copy_in",
    "delete",
    "exists",
    "head",
    "join",
    "list",
    "local_path",
    "named_errors",
    "put",
    "put_new",
    "read",
    "read_into",
    "read_range",
    "read_tail",
    "require_create_only",
    "server_time",
    "temporary_beside",
]
