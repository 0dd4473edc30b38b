"""Step Functions, Lambda and S3 of moto, which start nothing but keep what they are told."""

import json

import boto3

BUCKET = "skyfan"
SETTINGS = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def make_function(name, memory_mb):
    """An image function in moto; its ARN comes back."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    return boto3.client("lambda").create_function(
        FunctionName=name,
        PackageType="Image",
        Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"},
        Role=role,
        MemorySize=memory_mb,
        Architectures=["arm64"],
    )["FunctionArn"]
