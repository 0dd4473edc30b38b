#!/usr/bin/env python3
"""The IAM policy that somebody needs who applies and destroys this plan, and nothing more. Standard library only.

    terraform plan -out plan.out && terraform show -json plan.out | python3 scripts/applier_policy.py >applier.json

An administrator makes the plan and the policy, and attaches it to the person who is to apply ("Service Authorization
Reference", https://docs.aws.amazon.com/service-authorization/latest/reference/, read 2026-11). Rights on state in S3
are not in it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

# The most characters of a managed policy, white space aside ("IAM and AWS STS quotas").
MAX_CHARACTERS = 6144

_TAGS = ("TagResource", "UntagResource", "ListTagsForResource")
# By resource type: the service, what of it is touched, and the actions that create, read, change and delete it. Places
# in braces are filled in from the plan; "*" where AWS knows no narrower resource or the name is AWS's own choice.
ACTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "aws_s3_bucket": (
        "s3",
        "arn:{partition}:s3:::{bucket}",
        ("CreateBucket", "DeleteBucket", "ListBucket*", "Get*Configuration", "Put*Configuration", "GetBucket*",
         "PutBucket*", "DeleteBucketPolicy"),
    ),
    "aws_ecr_repository": (
        "ecr",
        "arn:{partition}:ecr:{region}:{account}:repository/{name}-*",
        ("*Repository", "*RepositoryPolicy", "*LifecyclePolicy", "PutImage*", "Describe*", "ListTagsForResource",
         "TagResource", "BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer", "InitiateLayerUpload",
         "UploadLayerPart", "CompleteLayerUpload"),
    ),
    "aws_iam_role": (
        "iam",
        "arn:{partition}:iam::{account}:role/{global_name}-*",
        ("*Role", "*RolePolicy", "ListRolePolicies", "ListAttachedRolePolicies", "ListInstanceProfilesForRole",
         "UpdateAssumeRolePolicy", "*RoleTags"),
    ),
    "aws_iam_policy": (
        "iam",
        "arn:{partition}:iam::{account}:policy/{global_name}-*",
        ("*Policy", "*PolicyVersion", "*PolicyVersions", "ListPolicyTags"),
    ),
    "aws_iam_instance_profile": (
        "iam",
        "arn:{partition}:iam::{account}:instance-profile/{global_name}-*",
        ("*InstanceProfile", "*RoleToInstanceProfile", "*RoleFromInstanceProfile", "*InstanceProfileTags"),
    ),
    "aws_batch_job_definition": (
        "batch",
        "*",
        ("*ComputeEnvironment", "*JobQueue", "*JobDefinition", "Describe*", *_TAGS),
    ),
    "aws_lambda_function": (
        "lambda",
        "arn:{partition}:lambda:{region}:{account}:function:{name}-*",
        ("*Function", "GetFunction*", "UpdateFunction*", "PutFunctionConcurrency", "*Permission", "GetPolicy",
         "ListVersionsByFunction", "TagResource", "UntagResource", "ListTags"),
    ),
    "aws_sfn_state_machine": (
        "states",
        "arn:{partition}:states:{region}:{account}:stateMachine:{name}-*",
        ("*StateMachine", "ListStateMachineVersions", "ValidateStateMachineDefinition", *_TAGS),
    ),
    "aws_cloudwatch_log_group": (
        "logs",
        "arn:{partition}:logs:{region}:{account}:log-group:/aws/*/{name}-*",
        ("*LogGroup", "*RetentionPolicy", *_TAGS, "ListTagsLogGroup"),
    ),
    "aws_cloudwatch_metric_alarm": (
        "cloudwatch",
        "arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}-*",
        ("PutMetricAlarm", "DeleteAlarms", "DescribeAlarms", *_TAGS),
    ),
    "aws_cloudwatch_dashboard": (
        "cloudwatch",
        "arn:{partition}:cloudwatch::{account}:dashboard/{global_name}",
        ("PutDashboard", "GetDashboard", "DeleteDashboards"),
    ),
    "aws_cloudwatch_event_rule": (
        "events",
        "arn:{partition}:events:{region}:{account}:rule/{name}-*",
        ("*Rule", "*Targets", "ListTargetsByRule", *_TAGS),
    ),
    "aws_sns_topic": (
        "sns",
        "arn:{partition}:sns:{region}:{account}:{name}-alarms",
        ("*Topic", "*TopicAttributes", "Subscribe", "GetSubscriptionAttributes", "Unsubscribe", *_TAGS),
    ),
    "aws_budgets_budget": (
        "budgets",
        "arn:{partition}:budgets::{account}:budget/{global_name}",
        ("ViewBudget", "ModifyBudget", *_TAGS),
    ),
    "aws_secretsmanager_secret": (
        "secretsmanager",
        "arn:{partition}:secretsmanager:{region}:{account}:secret:{name}/*",
        ("*Secret", "GetResourcePolicy", "PutSecretValue", "TagResource", "UntagResource"),
    ),
    "aws_ecs_service": (
        "ecs",
        "*",
        ("*Cluster", "DescribeClusters", "*Service", "DescribeServices", "*TaskDefinition", *_TAGS),
    ),
    "aws_lb": ("elasticloadbalancing", "*", ("*LoadBalancer", "*TargetGroup", "*Listener", "*Attributes", "Describe*",
                                             "AddTags", "RemoveTags")),
    "aws_vpc": (
        "ec2",
        "*",
        ("*Vpc", "*VpcAttribute", "*VpcEndpoint", "*VpcEndpoints", "*Subnet", "*SubnetAttribute",
         "*InternetGateway", "*RouteTable", "*Route", "*SecurityGroup",
         "*SecurityGroupIngress", "*SecurityGroupEgress", "*SecurityGroupRules", "Describe*", "CreateTags",
         "DeleteTags"),
    ),
}  # fmt: skip
# Covered by the entry of what they belong to.
PART_OF = {
    "aws_s3_bucket_": "aws_s3_bucket",
    "aws_batch_": "aws_batch_job_definition",
    "aws_ecr_": "aws_ecr_repository",
    "aws_iam_role_policy": "aws_iam_role",
    "aws_lambda_permission": "aws_lambda_function",
    "aws_cloudwatch_event_target": "aws_cloudwatch_event_rule",
    "aws_sns_topic_subscription": "aws_sns_topic",
    "aws_ecs_": "aws_ecs_service",
    "aws_lb_": "aws_lb",
}
_OF_NETWORK = ("aws_default_security_group", "aws_internet_gateway", "aws_route", "aws_security_group", "aws_subnet",
               "aws_vpc_")  # fmt: skip
# Asked of AWS as a whole, before anything is named.
_WHOLE = {
    "aws_ecr_repository": ("ecr:GetAuthorizationToken",),
    "aws_cloudwatch_log_group": ("logs:DescribeLogGroups",),
    "aws_sfn_state_machine": (
        "logs:CreateLogDelivery", "logs:DescribeResourcePolicies", "logs:PutResourcePolicy", "logs:ListLogDeliveries",
        "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
    ),
    "aws_batch_job_definition": ("iam:CreateServiceLinkedRole",),
    "aws_ecs_service": ("iam:CreateServiceLinkedRole",),
}  # fmt: skip
_FORCE_DESTROYED = ("DeleteObject", "DeleteObjectVersion", "ListBucketVersions")


def entry_of(kind: str) -> str:
    """The entry of ACTIONS that covers a resource type.

    Raises:
        SystemExit: none does; the table and the module have to agree.
    """
    if kind in ACTIONS:
        return kind
    if kind.startswith(_OF_NETWORK):
        return "aws_vpc"
    for start, entry in PART_OF.items():
        if kind.startswith(start):
            return entry
    raise SystemExit(f"applier_policy.py knows no actions for {kind}: add it to ACTIONS.")


def policy_of(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The policy document for a plan, as `terraform show -json` prints it."""
    changes = [change for change in plan["resource_changes"] if change["type"].startswith("aws_")]
    managed = [change for change in changes if change["mode"] == "managed"]
    entries = sorted({entry_of(change["type"]) for change in managed})
    places = _places(managed)
    return {"Version": "2012-10-17", "Statement": list(_statements(entries, places, managed))}


def _places(managed: list[dict[str, Any]]) -> dict[str, str]:
    """What stands in the braces of ACTIONS."""
    values = {change["address"].rpartition("module.")[2].split("[")[0]: change["change"]["after"] for change in managed}
    machine = next(value for address, value in values.items() if address.endswith("aws_sfn_state_machine.pipeline"))
    role = next(value for address, value in values.items() if address.endswith("aws_iam_role.pipeline"))
    bucket = next((value["bucket"] for address, value in values.items() if address.endswith("aws_s3_bucket.this")), "")
    trusted = json.loads(role["assume_role_policy"])["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"][0]
    _, partition, _, region, account, *_ = trusted.split(":")
    name = machine["name"].removesuffix("-pipeline")
    return {
        "partition": partition,
        "region": region,
        "account": account,
        "name": name,
        "global_name": role["name"].removesuffix("-pipeline"),
        "bucket": bucket,
    }


def _statements(
    entries: list[str], places: Mapping[str, str], managed: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    whole = ["sts:GetCallerIdentity", *(action for entry in entries for action in _WHOLE.get(entry, ()))]
    yield {"Effect": "Allow", "Action": whole, "Resource": "*"}
    for entry in entries:
        service, resource, actions = ACTIONS[entry]
        named = resource.format(**places)
        allowed = [f"{service}:{action}" for action in actions]
        if entry == "aws_iam_role":
            allowed.append("iam:PassRole")
        yield {"Effect": "Allow", "Action": allowed, "Resource": named}
    if any((change["change"]["after"] or {}).get("force_destroy") for change in managed):
        bucket = "arn:{partition}:s3:::{bucket}".format(**places)
        yield {
            "Effect": "Allow",
            "Action": [f"s3:{action}" for action in _FORCE_DESTROYED],
            "Resource": [bucket, f"{bucket}/*"],
        }


def main() -> None:
    """Reads a plan from standard input, prints its policy."""
    document = policy_of(json.load(sys.stdin))
    size = len(json.dumps(document, separators=(",", ":")))
    if size > MAX_CHARACTERS:
        raise SystemExit(f"The policy has {size} characters, and IAM takes {MAX_CHARACTERS}.")
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
