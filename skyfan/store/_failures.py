"""obstore's errors as Skyfan's: one sentence, and whether trying again can help."""

import contextlib
import re
from collections.abc import Iterator

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from skyfan.errors import LocationError, SkyfanError, Transient

_STATUS = re.compile(r"status code: (\d{3})")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_UNREACHABLE = re.compile(r"kind: (Connect|Timeout|Request)\b")
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_BUSY = {"SlowDown", "Throttling", "RequestTimeout", "ServiceUnavailable", "InternalError", "RequestTimeTooSkewed"}


@contextlib.contextmanager
def translated(uri: str, answered: bool) -> Iterator[None]:
    """Raise what obstore raises inside as `LocationError` or `Transient` with `uri` in it.

    A network failure is `Transient` once the endpoint has `answered`; before that, the address is wrong.
    """
    try:
        yield
    except SkyfanError:
        raise
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise _skyfan_error(uri, error, answered) from error


def _skyfan_error(uri: str, error: Exception, answered: bool) -> SkyfanError:
    text = str(error)
    found = _S3_CODE.search(text)
    code = found[1] if found else ""
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    if code == "NoSuchBucket":
        return LocationError(f"{uri}: the bucket does not exist; check its name, AWS_ENDPOINT_URL and AWS_REGION.")
    if isinstance(error, FileNotFoundError):
        return LocationError(f"{uri} does not exist; check the bucket and the key.")
    if code in _CREDENTIALS or isinstance(error, UnauthenticatedError):
        return LocationError(
            f"{uri}: the AWS credentials were refused ({code or 'unauthenticated'}); renew them or set AWS_PROFILE."
        )
    if isinstance(error, PermissionDeniedError) or status == 403:
        return LocationError(
            f"{uri}: access denied; these AWS credentials lack permission here: set AWS_PROFILE or mend the policy."
        )
    if "redirect" in text or status in (301, 307) or code == "AuthorizationHeaderMalformed":
        return LocationError(f"{uri}: the bucket is in another region; set AWS_REGION to the bucket's.")
    if status == 416 or code == "InvalidRange":
        return LocationError(f"{uri} is shorter than the bytes asked for; it is truncated or was replaced.")
    if isinstance(error, ValueError):
        return LocationError(f"{uri} is not a valid object name: {_first_line(text)}")
    return _network_error(uri, text, status, code, answered)


def _network_error(uri: str, text: str, status: int, code: str, answered: bool) -> SkyfanError:
    if not (answered or status) and _UNREACHABLE.search(text):
        return LocationError(f"{uri} cannot be reached; check the network and AWS_ENDPOINT_URL.")
    if status == 429 or status >= 500 or code in _BUSY or "HttpError" in text or "kind: " in text:
        return Transient(f"{uri}: the store is busy or broke the connection: {_first_line(text)}")
    return LocationError(f"{uri}: {_first_line(text)}")


def _first_line(text: str) -> str:
    line = text.split("\n\n")[0].split("\n")[0]
    line = re.sub(r"<[^>]*>", " ", line)
    return " ".join(line.split())[:300].rstrip(".") + "."
