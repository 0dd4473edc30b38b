"""Numbers that Terraform and the docs must repeat are those of `skyfan.aws_limits`."""

import re
from pathlib import Path

from skyfan import aws_limits

ROOT = Path(__file__).parents[2]


def test_terraform_allows_what_lambda_allows():
    variables = (ROOT / "infra/terraform/variables.tf").read_text()
    most = {name: int(value) for name, value in re.findall(r"var\.(\w+) <= (\d+)", variables)}
    functions = ("partitioner", "executor", "aggregator")
    assert {most[f"{name}_timeout_s"] for name in functions} == {aws_limits.LAMBDA_TIMEOUT_S}
    assert {most[f"{name}_memory_mb"] for name in functions} == {aws_limits.LAMBDA_MAX_MEMORY_MB}


def test_the_docs_name_the_limits_that_a_run_respects():
    page = " ".join((ROOT / "docs/explanation/scale.md").read_text().split())
    for number, what in (
        (aws_limits.LAMBDA_TIMEOUT_S, "s a function"),
        (aws_limits.MAP_CONCURRENCY, "children of one map"),
        (aws_limits.OPEN_MAP_RUNS, "open map runs"),
        (aws_limits.EXECUTION_EVENTS, "events of a Standard execution"),
        (aws_limits.STATE_PAYLOAD_BYTES // 2**10, "KiB of payload"),
    ):
        assert f"{number:,} {what}" in page
    assert f"on AWS within {aws_limits.REDRIVE_DAYS} days" in (ROOT / "docs/how-to/step-functions.md").read_text()


def test_no_module_repeats_a_limit():
    written = re.compile(r"\b(1_?769|10_?240|900(\.0)?|3_?008)\b")
    found = {
        path.relative_to(ROOT).as_posix(): line
        for folder in ("skyfan", "services", "infra/compose")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "skyfan/aws_limits.py"
        for line in path.read_text().splitlines()
        if written.search(line)
    }
    assert not found
