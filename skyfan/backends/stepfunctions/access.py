"""Clients for Step Functions and Lambda, set up as boto3's users expect, and their errors as sentences.

`--on aws` takes region, profile, credentials and AWS_ENDPOINT_URL from boto3's usual places. `--on localstack`
needs nothing: what is not set gets LocalStack's defaults, for boto3 and for `skyfan.store` alike.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skyfan.errors import BadInput, LocationError, SkyfanError, Transient

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

LOCALSTACK, AWS = "localstack", "aws"
STEP_FUNCTIONS_TARGETS = (LOCALSTACK, AWS)
LOCALSTACK_ENDPOINT = "http://localhost:4566"
LOCALSTACK_REGION = "us-east-1"
_START_LOCALSTACK = "`make localstack-up` starts LocalStack with everything in it."

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"}
_NOT_THERE = {
    "StateMachineDoesNotExist",
    "StateMachineDeleting",
    "ExecutionDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
    "InvalidArn",
}
_BUSY = {"ThrottlingException", "TooManyRequestsException", "ServiceUnavailable", "InternalFailure", "InternalError"}


_ours: dict[str, str] = {}
"""What `prepare_environment` has set."""


def prepare_environment(on: str) -> None:
    """Sets LocalStack's defaults where nothing else is set; call it before the store's or boto3's first use.

    They stay after a run, whose results are read with them, until this process goes to AWS.
    """
    if on != LOCALSTACK:
        for name, value in _ours.items():
            if os.environ.get(name) == value:
                del os.environ[name]
        _ours.clear()
        return
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or LOCALSTACK_REGION
    defaults = {
        "AWS_ENDPOINT_URL": LOCALSTACK_ENDPOINT,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in defaults.items():
        if not os.environ.get(name):
            os.environ[name] = _ours[name] = value


@dataclass(frozen=True)
class Access:
    """Who is called, where."""

    on: str
    region: str
    endpoint: str
    states: "SFNClient"
    functions: "LambdaClient"


def open_access(on: str) -> Access:
    """Clients for the target; nothing is called yet.

    Raises:
        BadInput: `on` is no such target, boto3 is missing, or there is no region.
    """
    if on not in STEP_FUNCTIONS_TARGETS:
        raise BadInput(f"--on {on} has no Step Functions; choose {' or '.join(STEP_FUNCTIONS_TARGETS)}.")
    prepare_environment(on)
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise BadInput(f"--on {on} needs boto3: pip install 'skyfan[aws]'.") from error
    config = Config(retries={"mode": "standard", "max_attempts": 6}, connect_timeout=5, read_timeout=60)
    with aws_errors(on, "open a session"):
        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        states = session.client("stepfunctions", config=config)
        functions = session.client("lambda", config=config)
    return Access(on, states.meta.region_name, states.meta.endpoint_url, states, functions)


@contextmanager
def aws_errors(on: str, doing: str, *, not_there: SkyfanError | None = None) -> Iterator[None]:
    """What boto3 raises inside leaves as one of Skyfan's errors; `doing` completes "could not …".

    `not_there` is raised instead where what is named does not exist.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if not_there and _code(error) in _NOT_THERE:
            raise not_there from error
        raise _refused(on, doing, error) from error
    except BotoCoreError as error:
        raise _unreachable(on, doing, error) from error


def _code(error: "ClientError") -> str:
    return error.response.get("Error", {}).get("Code", "")


def _refused(on: str, doing: str, error: "ClientError") -> SkyfanError:
    code = _code(error)
    message = error.response.get("Error", {}).get("Message", "") or str(error)
    if code in _EXPIRED:
        return LocationError(f"could not {doing}: AWS does not accept these credentials ({code}); log in again.")
    if code.startswith("AccessDenied"):
        return LocationError(
            f"could not {doing}: {message} Attach the policy that Terraform prints as runner_policy_arn, or ask for it."
        )
    if code in _BUSY:
        return Transient(f"could not {doing}: {on} answers {code}; try again later.")
    return BadInput(f"could not {doing}: {code}: {message}")


def _unreachable(on: str, doing: str, error: "BotoCoreError") -> SkyfanError:
    from botocore import exceptions

    if isinstance(error, exceptions.NoRegionError):
        return LocationError(f"could not {doing}: no AWS region is set; set AWS_REGION, or a region in the profile.")
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return LocationError(
            f"could not {doing}: no AWS credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or log in with `aws sso login`."
        )
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        hint = f" {_START_LOCALSTACK}" if on == LOCALSTACK else ""
        return Transient(f"could not {doing}: {error}.{hint}")
    return LocationError(f"could not {doing}: {error}")
