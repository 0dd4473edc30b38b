"""Google's and Azure's stores, and web servers: where data is read that others put there.

Credentials are those that obstore finds in the environment; where there are none, requests are not signed, as public
data needs it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError

from skyfan.errors import LocationError
from skyfan.store._clients import make_clients
from skyfan.store._location import Location
from skyfan.store._objects import Clients, ObjectBackend
from skyfan.store._types import NotListed, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ClientConfig, RetryConfig

ENVIRONMENT = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_SKIP_SIGNATURE",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_SKIP_SIGNATURE",
)
"""The variables that decide which client a bucket gets; a changed value gets a new client."""

# Where `gcloud auth application-default login` leaves credentials.
_GOOGLE_DEFAULT = ".config/gcloud/application_default_credentials.json"


class WebBackend(ObjectBackend):
    """A web server: objects are read by ranges, and neither listed nor written."""

    def list(self, key: str, not_listed: NotListed | None) -> "Iterator[ObjectInfo]":  # noqa: ARG002
        raise LocationError(
            f"{self._uri(key)}: web servers do not list folders; name a file, or copy the files here with "
            "`skyfan data fetch`."
        )

    def require_create_only(self, key: str) -> None:
        raise LocationError(f"{self._uri(key)} is on a web server, which is only read; choose another --output.")


def open_bucket(root: Location) -> ObjectBackend:
    """A backend for the bucket, container or server of `root`; no request is made yet.

    Raises:
        LocationError: obstore lacks a setting.
    """
    try:
        if root.scheme == "http":
            return WebBackend(root, _web(root))
        return ObjectBackend(root, _google(root) if root.scheme == "gs" else _azure(root))
    except (BaseError, ValueError) as error:
        needed = "AZURE_STORAGE_ACCOUNT_NAME" if root.scheme == "az" else "GOOGLE_APPLICATION_CREDENTIALS"
        raise LocationError(f"{root.uri} cannot be opened: set {needed} ({str(error).splitlines()[0]}).") from error


def _web(root: Location) -> Clients:
    from obstore.store import HTTPStore

    def make(client: "ClientConfig", retry: "RetryConfig") -> HTTPStore:
        return HTTPStore(root.bucket, client_options=client, retry_config=retry)

    return make_clients(make, plain_http=root.bucket.startswith("http://"))


def _google(root: Location) -> Clients:
    from obstore.store import GCSStore

    named = any(os.environ.get(name) for name in ENVIRONMENT if name.startswith("GOOGLE_"))
    config: Any = {} if named or (Path.home() / _GOOGLE_DEFAULT).exists() else {"skip_signature": True}

    def make(client: "ClientConfig", retry: "RetryConfig") -> GCSStore:
        return GCSStore(root.bucket, **config, client_options=client, retry_config=retry)

    return make_clients(make, plain_http=True)


def _azure(root: Location) -> Clients:
    from obstore.store import AzureStore

    signing = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CLIENT_ID")
    config: Any = {} if any(os.environ.get(name) for name in signing) else {"skip_signature": True}

    def make(client: "ClientConfig", retry: "RetryConfig") -> AzureStore:
        return AzureStore(root.bucket, **config, client_options=client, retry_config=retry)

    return make_clients(make, plain_http=os.environ.get("AZURE_STORAGE_ENDPOINT", "").startswith("http://"))
