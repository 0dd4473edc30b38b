"""Where a run reads and writes: the output's store, credentials, the clock, room on the disks."""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from skyfan import store
from skyfan.aws_limits import S3_CLOCK_OFFSET_S
from skyfan.diagnosis.findings import FAIL, OK, WARN, Finding
from skyfan.errors import SkyfanError
from skyfan.units import format_size

SURE_CLOCK_OFFSET_S = 60
# A rank's encoded results and what is made from them; a run of a million galaxies leaves 30 MB.
WANTED_DISK_BYTES = 2**30
NEEDED_DISK_BYTES = 64 * 2**20


def examine_storage(output: str) -> Iterator[Finding]:
    """One finding after another about a run's output (path or URI); leaves nothing there."""
    folder = store.local_path(output)
    yield _credentials(output, folder)
    yield _probe(output, folder)
    yield _clock(output, folder)
    yield disk("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder with more room")
    if folder is not None:
        yield disk("output", _existing(folder), "choose another --output, or make room")


def _probe(output: str, folder: Path | None) -> Finding:
    """Whether a second create-only write of one object is refused, and what was written is read back."""
    existing = str(_existing(folder)) if folder is not None else output
    probe = store.join(existing, f".skyfan-doctor-{secrets.token_hex(8)}")
    try:
        store.require_create_only(existing)
        try:
            kept = _keeps_the_first(probe)
        finally:
            store.delete(probe)
    except SkyfanError as error:
        return Finding("store", FAIL, str(error).rstrip("."), error.cure.rstrip("."))
    if not kept:
        return Finding("store", FAIL, f"{existing} replaces what it was told to keep", "choose another --output")
    return Finding("store", OK, f"{existing} can be written once, read and cleaned")


def _keeps_the_first(uri: str) -> bool:
    store.put_new(uri, b"1")
    with contextlib.suppress(store.AlreadyExists):
        store.put_new(uri, b"2")
    return store.read(uri) == b"1"


def _credentials(output: str, folder: Path | None) -> Finding:
    """Where the credentials come from; whether they are accepted is what the store's probe shows."""
    if not output.startswith("s3://"):
        return Finding("credentials", OK, f"none are needed for {folder or output}")
    if not find_spec("boto3"):
        return Finding("credentials", WARN, "only variables can be used without boto3", "pip install 'skyfan[aws]'")
    import boto3
    from botocore.exceptions import BotoCoreError

    remedy = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with `aws sso login`"
    try:
        found = boto3.Session().get_credentials()
    except BotoCoreError as error:
        return Finding("credentials", FAIL, str(error).rstrip("."), remedy)
    if found is None:
        return Finding("credentials", FAIL, "no AWS credentials were found", remedy)
    return Finding("credentials", OK, f"AWS credentials by {found.method}")


def _clock(output: str, folder: Path | None) -> Finding:
    if folder is not None or not output.startswith("s3://"):
        return Finding("clock", OK, "not compared: the output has no server")
    now = store.server_time(output)
    if now is None:
        return Finding("clock", WARN, "not compared: the store did not answer", "see whether AWS_ENDPOINT_URL is right")
    return clock((datetime.now(UTC) - now).total_seconds())


def clock(offset_s: float) -> Finding:
    """By how much this machine's clock is ahead of the store's; answers carry whole seconds."""
    found = f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} the store's"
    remedy = "set the clock, such as by `timedatectl set-ntp true`"
    if abs(offset_s) > S3_CLOCK_OFFSET_S:
        return Finding("clock", FAIL, f"{found}: S3 refuses requests that are {S3_CLOCK_OFFSET_S} s off", remedy)
    if abs(offset_s) > SURE_CLOCK_OFFSET_S:
        return Finding("clock", WARN, found, remedy)
    return Finding("clock", OK, found)


def disk(subject: str, folder: Path, remedy: str) -> Finding:
    """Whether a folder can be written and its disk has room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
            file.flush()
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(subject, FAIL, f"{folder} cannot be written: {error.strerror}", remedy)
    found = f"{format_size(free_bytes)} free in {folder}"
    if free_bytes < WANTED_DISK_BYTES:
        return Finding(subject, FAIL if free_bytes < NEEDED_DISK_BYTES else WARN, found, remedy)
    return Finding(subject, OK, found)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there; a run makes the rest."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
