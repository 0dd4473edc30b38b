"""obstore's errors as Skyfan's: one sentence, and whether trying again can help."""

import contextlib
import re
from collections.abc import Iterator

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from skyfan.errors import LocationError, SkyfanError, Transient
from skyfan.store._types import AlreadyExists, NotFound, PreconditionFailed

_STATUS = re.compile(r"status code: (\d{3})")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_UNREACHABLE = re.compile(r"kind: (Connect|Timeout|Request)\b")
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_BUSY = {"SlowDown", "Throttling", "RequestTimeout", "ServiceUnavailable", "InternalError", "RequestTimeTooSkewed"}
_NO_CONDITIONS = {"NotImplemented", "InvalidArgument", "InvalidRequest"}


class WrongRegion(LocationError):
    """The bucket lies in another region than the one that was asked."""

    cure = "Set AWS_REGION to the bucket's region."


class AccessDenied(LocationError):
    """S3 answers so for a missing object too, where the caller may not list the bucket."""

    cure = "Check the spelling, and that the credentials may read the object, and list the bucket."


class RangeRefused(LocationError):
    """There are no such bytes, or the store answers others."""

    cure = "See whether the object was replaced by a shorter one; plan again if it was."


class Conflict(Transient):
    """Several conditional writes of one object at once; who wins is not known yet (S3: 409)."""

    cure = "Nothing to do: the write is tried again. If a run ends with it, run the same command again."


@contextlib.contextmanager
def translated(uri: str, answered: bool, *, conditional: bool = False) -> Iterator[None]:
    """Raise what obstore raises inside as `LocationError` or `Transient` with `uri` in it.

    A network failure is `Transient` once the endpoint has `answered`; before that, the address is wrong.
    `conditional`: the request is a write with If-None-Match, which not every store knows.
    """
    try:
        yield
    except SkyfanError:
        raise
    except (BaseError, FileNotFoundError, ValueError) as error:
        text = str(error)
        found = _S3_CODE.search(text)
        code = found[1] if found else ""
        status = int(match[1]) if (match := _STATUS.search(text)) else 0
        refused = _conditional_error(uri, error, status, code) if conditional else None
        raise refused or _skyfan_error(uri, error, status, code, answered) from error


def _conditional_error(uri: str, error: Exception, status: int, code: str) -> SkyfanError | None:
    """How S3 and its kin answer If-None-Match.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: 412 where the object exists, 409
    while another conditional request is under way. Stores without conditions answer 501, 400 or even 304.
    """
    if status == 409 or code == "ConditionalRequestConflict":
        return Conflict(f"{uri}: the store answers that others are writing this object (409).")
    if status in (304, 405, 501) or (status == 400 and code in _NO_CONDITIONS):
        return LocationError(
            f"{uri}: this store refuses conditional writes (If-None-Match: {status} {code}".rstrip()
            + "), without which two runs could overwrite each other; choose an --output on S3, another server or a "
            "local folder."
        )
    if isinstance(error, AlreadyExistsError):
        return AlreadyExists(f"{uri} exists already; nothing was written.")
    return None


def _skyfan_error(uri: str, error: Exception, status: int, code: str, answered: bool) -> SkyfanError:
    text = str(error)
    if code == "NoSuchBucket":
        return LocationError(f"{uri}: the bucket does not exist; check its name, AWS_ENDPOINT_URL and AWS_REGION.")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{uri} does not exist; check the bucket and the key.")
    if isinstance(error, PreconditionError):
        return PreconditionFailed(f"{uri} has changed since it was first read; start the run again.")
    if code in _CREDENTIALS or isinstance(error, UnauthenticatedError):
        return LocationError(
            f"{uri}: the AWS credentials were refused ({code or 'unauthenticated'}); renew them or set AWS_PROFILE, "
            "then start again: what is done is kept."
        )
    if isinstance(error, PermissionDeniedError) or status == 403:
        return AccessDenied(f"{uri}: access denied; {_credentials(uri)}")
    if "redirect" in text or status in (301, 307) or code in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        return WrongRegion(f"{uri}: the bucket is in another region; set AWS_REGION to the bucket's.")
    return _other_error(uri, error, status, code, answered)


def _credentials(uri: str) -> str:
    """What to do where access is denied."""
    if uri.startswith("s3://"):
        return "these AWS credentials lack permission here, or none were found: set AWS_PROFILE or change the policy."
    return "it is not public, or the credentials in the environment lack permission here."


def _other_error(uri: str, error: Exception, status: int, code: str, answered: bool) -> SkyfanError:
    text = str(error)
    if status == 400 and not code:
        return LocationError(
            f"{uri}: refused without a reason (400), as S3 answers a HEAD with expired credentials; renew them or set "
            "AWS_PROFILE, then start again: what is done is kept."
        )
    if status == 416 or code == "InvalidRange" or "Invalid range" in text or "OutOfRange" in text:
        return RangeRefused(f"{uri} is shorter than the bytes asked for; it is truncated or was replaced.")
    if "RangeNotSupported" in text:
        return LocationError(
            f"{uri}: this server ignores ranges, so that rows cannot be read one by one; copy the file here with "
            f"`skyfan data fetch {uri}`."
        )
    if "NotPartial" in text or "Requested " in text:
        return RangeRefused(f"{uri}: the store answers other bytes than the range asked for; use another server.")
    if isinstance(error, ValueError):
        return LocationError(f"{uri} is not a valid object name: {_first_line(text)}")
    if not (answered or status) and _UNREACHABLE.search(text):
        endpoint = " and AWS_ENDPOINT_URL" if uri.startswith("s3://") else " and the address"
        return LocationError(f"{uri} cannot be reached; check the network{endpoint}.")
    broken = any(sign in text for sign in ("HttpError", "kind: ", "invalid list response"))
    # 409: S3's OperationAborted, another operation on the same object is under way.
    if status in (408, 409, 429) or status >= 500 or code in _BUSY or broken:
        return Transient(f"{uri}: the store is busy or broke the connection: {_first_line(text)}")
    return LocationError(f"{uri}: {_first_line(text)}")


def _first_line(text: str) -> str:
    line = text.split("\n\n")[0].split("\n")[0]
    line = re.sub(r"<[^>]*>", " ", line)
    return " ".join(line.split())[:300].rstrip(".") + "."
