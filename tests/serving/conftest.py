"""The S3 server of the store's tests, and the proxy before it that fails."""

from tests.store.conftest import aws_environment, proxy, s3, s3_endpoint

__all__ = ["aws_environment", "proxy", "s3", "s3_endpoint"]
