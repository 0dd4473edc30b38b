"""S3 clients, set up as boto3's users expect: environment, profiles and the credential chain."""

import importlib.util
import os
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from skyfan.errors import LocationError
from skyfan.store._clients import make_clients
from skyfan.store._location import Location
from skyfan.store._objects import Clients, ObjectBackend

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

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

_DEFAULT_REGION = "us-east-1"


def open_bucket(root: Location) -> ObjectBackend:
    """A backend for the bucket of `root`; no request is made yet."""
    config = _config(root)

    def elsewhere() -> Clients | None:
        region = _bucket_region(root.bucket, config)
        return _clients(root, config | {"region": region}) if region not in (None, config["region"]) else None

    return ObjectBackend(root, _clients(root, config), elsewhere)


def _clients(root: Location, config: dict[str, Any]) -> Clients:
    from obstore.store import S3Store

    def make(client: "ClientConfig", retry: "RetryConfig") -> S3Store:
        # One object a request: not every server has the call that deletes several.
        return S3Store(root.bucket, **config, disable_bulk_delete=True, client_options=client, retry_config=retry)

    return make_clients(make, plain_http=config.get("endpoint", "").startswith("http://"))


def server_time(root: Location) -> datetime | None:
    """What the server of a bucket takes for the time; None where it does not answer."""
    date = _answer_headers(root.bucket, _address()).get("date")
    return parsedate_to_datetime(date) if date else None


def _bucket_region(bucket: str, config: dict[str, Any]) -> str | None:
    """Where the bucket is, which S3 tells everybody; None where the server does not."""
    return _answer_headers(bucket, config).get("x-amz-bucket-region")


def _answer_headers(bucket: str, config: dict[str, Any]) -> Mapping[str, str]:
    """The headers of the answer to an unsigned request, whatever it is; none without an answer, or without boto3.

    boto3 knows the address. Its own call asks again and again where a redirection names no region.
    """
    if not importlib.util.find_spec("boto3"):
        return {}
    import boto3
    from botocore import UNSIGNED
    from botocore.awsrequest import AWSRequest
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    region, unsigned = config["region"] or _DEFAULT_REGION, Config(signature_version=UNSIGNED)
    client = boto3.client("s3", region_name=region, endpoint_url=config.get("endpoint"), config=unsigned)
    url = f"{client.meta.endpoint_url}/{bucket}"
    session = URLLib3Session(timeout=5, proxies=get_environ_proxies(url))
    try:
        headers: Mapping[str, str] = session.send(AWSRequest("HEAD", url).prepare()).headers
    except BotoCoreError:
        return {}
    return headers


def _config(root: Location) -> dict[str, Any]:
    config = _address()
    region = config["region"]
    if not (_static_credentials() or _unsigned()) and importlib.util.find_spec("boto3"):
        if provider := _boto3_provider(root):
            config["credential_provider"] = provider
            region = region or provider.config.get("region")
        else:
            config["skip_signature"] = True  # a public bucket, or one that then denies access
    config["region"] = region or _DEFAULT_REGION
    return config


def _address() -> dict[str, Any]:
    """Endpoint and region as the environment has them; a region of None where it names none."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    placed = {"endpoint": endpoint.rstrip("/"), "virtual_hosted_style_request": False} if endpoint else {}
    return {**placed, "region": region}


def _static_credentials() -> bool:
    return bool(os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"))


def _unsigned() -> bool:
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")


def _boto3_provider(root: Location) -> Any:
    """Profiles, SSO, web identity, container and instance roles, as boto3 finds them; None where there are none."""
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError:
        return None
    except BotoCoreError as error:  # a profile that is named and not there, or a damaged file of them
        raise LocationError(
            f"{root.uri}: no AWS credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a public bucket)."
        ) from error
