"""S3 clients, set up as boto3's users expect: environment, profiles and the credential chain."""

import importlib.util
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from skyfan.errors import LocationError
from skyfan.store._location import Location
from skyfan.store._objects import ObjectBackend

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Store

ENVIRONMENT = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SKIP_SIGNATURE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
)
"""The variables that decide which client a bucket gets; a changed value gets a new client."""

_EAGER: "RetryConfig" = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
_PATIENT: "RetryConfig" = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}


def open_bucket(root: Location) -> ObjectBackend:
    """A backend for the bucket of `root`; no request is made yet."""
    config = _config(root)
    return ObjectBackend(
        root,
        _store(root, config, _EAGER, read_timeout_s=5),
        _store(root, config, _PATIENT, read_timeout_s=60),
    )


def _store(root: Location, config: dict[str, Any], retry: "RetryConfig", read_timeout_s: int) -> "S3Store":
    from obstore.store import S3Store

    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=2),
        "read_timeout": timedelta(seconds=read_timeout_s),
        "timeout": timedelta(minutes=10),
        "allow_http": config.get("endpoint", "").startswith("http://"),
    }
    return S3Store(root.bucket, **config, client_options=client, retry_config=retry)


def _config(root: Location) -> dict[str, Any]:
    config: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        config |= {"endpoint": endpoint.rstrip("/"), "virtual_hosted_style_request": False}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not (_static_credentials() or _unsigned()) and importlib.util.find_spec("boto3"):
        provider = _boto3_provider(root)
        config["credential_provider"] = provider
        region = region or provider.config.get("region")
    config["region"] = region or "us-east-1"
    return config


def _static_credentials() -> bool:
    return bool(os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"))


def _unsigned() -> bool:
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")


def _boto3_provider(root: Location) -> Any:
    """Profiles, SSO, web identity, container and instance roles, as boto3 finds them."""
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except (ValueError, BotoCoreError) as error:
        raise LocationError(
            f"{root.uri}: no AWS credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a public bucket)."
        ) from error
