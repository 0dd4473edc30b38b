"""An S3 server in this process with one bucket, and the environment that points to it."""

import contextlib
import logging
from collections.abc import Iterator

import boto3

from tests.faults.runner import BUCKET
from tests.moto_server import moto_server


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Variables under which stores find the server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with moto_server() as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
