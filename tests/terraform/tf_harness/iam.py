"""AWS's evaluation of identity policies, as far as the module's policies go, and a search for what is too wide.

The logic is that of the IAM user guide: an explicit Deny wins, else one matching Allow is needed. Elements and
condition operators that the module does not use raise, so that nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Document = dict[str, Any]

# Actions for which AWS defines no resource narrower than "*" (Service Authorization Reference).
NO_NARROWER_RESOURCE = {
    "batch:DescribeJobs",
    "ecr:GetAuthorizationToken",
    "lambda:GetAccountSettings",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "states:ListStateMachines",
}


def is_allowed(document: Document, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether the policy lets its holder do `action` on `resource` (an ARN, or "*" where the action has none)."""
    effects = {
        statement["Effect"]
        for statement in statements(document)
        if _applies(statement, action, resource, context or {})
    }
    return "Deny" not in effects and "Allow" in effects


def too_wide(document: Document) -> list[str]:
    """What is wider than least privilege: wildcards in actions, resources that name nothing of ours."""
    findings = []
    for statement in statements(document):
        if statement["Effect"] != "Allow":
            continue
        name = statement.get("Sid", "a statement")
        findings += [
            f"{name} allows {action}" for action in _list(statement["Action"]) if "*" in action or "?" in action
        ]
        for resource in _list(statement["Resource"]):
            if resource == "*":
                narrower = set(_list(statement["Action"])) - NO_NARROWER_RESOURCE
                findings += [f"{name} allows {action} on every resource" for action in sorted(narrower)]
            elif not re.match(r"[a-z]", resource.split(":", 5)[5]) or "*" in _first_name(resource):
                findings.append(f"{name} allows {resource}")
    return findings


def _first_name(arn: str) -> str:
    """The part of an ARN that names what is ours: the bucket, the function, the log group, the machine."""
    return arn.split(":", 5)[5].removesuffix(":*").split("/*")[0]


def actions(document: Document) -> set[str]:
    """Every action that some statement allows."""
    return {
        action
        for statement in statements(document)
        if statement["Effect"] == "Allow"
        for action in _list(statement["Action"])
    }


def statements(document: Document) -> list[dict[str, Any]]:
    """The statements; NotImplementedError for elements that this evaluation does not know."""
    found = _list(document["Statement"])
    for statement in found:
        unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
        if unknown:
            raise NotImplementedError(f"policy element {', '.join(sorted(unknown))}")
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _applies(statement: dict[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in _list(statement["Resource"]))
        and all(_conditions(statement.get("Condition", {}), context))
    )


def _conditions(conditions: dict[str, dict[str, Any]], context: Mapping[str, str]) -> Iterator[bool]:
    """One verdict a condition key; a key that the request lacks never fulfils a condition."""
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            values = [str(value) for value in _list(wanted)]
            actual = context.get(key)
            if operator in {"StringEquals", "Bool"}:
                yield actual in values
            elif operator in {"StringLike", "ArnLike"}:
                yield actual is not None and any(_matches(value, actual) for value in values)
            else:
                raise NotImplementedError(f"condition operator {operator}")


def _matches(pattern: str, value: str) -> bool:
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.fullmatch("".join(parts), value, re.S) is not None
