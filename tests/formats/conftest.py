"""The S3 server that the store is tested with."""

from tests.store.conftest import aws_environment, s3, s3_endpoint

__all__ = ["aws_environment", "s3", "s3_endpoint"]
