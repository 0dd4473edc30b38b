"""The module made to fit terraform-provider-aws 3.39.0, the newest that the package registry holds as a binary.

Arguments and resources that are younger than it are dropped by a committed list; whatever else it does not know makes
Terraform fail. The files are in `terraform fmt` style (a test sees to that), in which a block ends at the first line
that is indented as its first.
"""

from __future__ import annotations

import re
from pathlib import Path

NEWER = Path(__file__).parents[1] / "newer_than_3.39.txt"

_HEADER = re.compile(r'^resource "(\w+)" "\w+" \{$')


def newer_names(path: Path = NEWER) -> set[str]:
    """Lines of the list: `type` drops resources, `type.argument` an argument or nested block."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line}


def drop_newer(module: Path, names: set[str]) -> None:
    """Remove what `names` lists from the module's files; ValueError for a name that nothing in the module matches."""
    unused = set(names)
    for path in sorted(module.glob("*.tf")):
        kept, dropped = _without(path.read_text().splitlines(keepends=True), names)
        path.write_text("".join(kept))
        unused -= dropped
    if unused:
        raise ValueError(
            f"{NEWER.name} lists what the module does not use: {', '.join(sorted(unused))}; remove it there."
        )


def _without(lines: list[str], names: set[str]) -> tuple[list[str], set[str]]:
    kept: list[str] = []
    dropped: set[str] = set()
    resource, position = "", 0
    while position < len(lines):
        line = lines[position]
        if header := _HEADER.match(line.rstrip("\n")):
            resource = header[1]
        elif line.startswith("}"):
            resource = ""
        argument = re.match(r"  (?:dynamic \")?(\w+)", line)
        name = resource if header else f"{resource}.{argument[1]}" if resource and argument else ""
        if name in names:
            dropped.add(name)
            position = _end(lines, position) + 1
            resource = "" if header else resource
        else:
            kept.append(line)
            position += 1
    return kept, dropped


def _end(lines: list[str], start: int) -> int:
    """Last line of the argument or block that starts here."""
    first = lines[start].rstrip()
    if not first.endswith(("{", "[", "(")):
        return start
    indent = len(first) - len(first.lstrip())
    closing = re.compile(rf"^ {{{indent}}}[}}\])]")
    return next(n for n in range(start + 1, len(lines)) if closing.match(lines[n]))


SERVICES = (
    "batch", "budgets", "cloudwatch", "cloudwatchevents", "cloudwatchlogs", "ec2", "ecr", "ecs", "elb", "iam", "lambda",
    "s3", "secretsmanager", "sns", "stepfunctions", "sts",
)  # fmt: skip


def point_at(module: Path, url: str, region: str = "us-east-1") -> None:
    """Put an override beside the module's files that sends every call of the provider to one local server."""
    endpoints = "\n".join(f'    {service} = "{url}"' for service in SERVICES)
    (module / "local_override.tf").write_text(f"""provider "aws" {{
  region                      = "{region}"
  access_key                  = "test"
  secret_key                  = "test"
  s3_force_path_style         = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_get_ec2_platforms      = true
  max_retries                 = 2

  endpoints {{
{endpoints}
  }}
}}
""")
