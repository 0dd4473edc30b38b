"""The buckets that a job in containers finds there, as a deployed one does."""

from skyfan.settings import ComposeSettings, read


def make_buckets() -> None:
    """Makes the buckets that `SKYFAN_BUCKETS` names, except those that are there."""
    names = read(ComposeSettings).buckets.split()
    if not names:
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    s3 = boto3.client("s3")
    try:
        there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        for name in names:
            if name not in there:
                s3.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(f"skyfan: {' and '.join(names)} cannot be made: {error} Is LocalStack up?") from error
