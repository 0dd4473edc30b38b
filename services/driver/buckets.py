"""`python -m services.driver.buckets NAME …`: makes S3 buckets that are not there yet."""

import sys

import boto3


def make_buckets(names: list[str]) -> None:
    """Makes each bucket; one that is ours already stays as it is."""
    s3 = boto3.client("s3")
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            s3.create_bucket(Bucket=name)


if __name__ == "__main__":
    make_buckets(sys.argv[1:])
