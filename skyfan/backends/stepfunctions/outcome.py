"""How an execution ended, as a summary or as the error that it was."""

import json
from typing import TYPE_CHECKING

from skyfan import store
from skyfan.backends.retry_policy import first_failure
from skyfan.errors import Interrupted, SkyfanError, Transient, by_name
from skyfan.records import Summary
from skyfan.rpc.lambda_errors import lambda_message
from skyfan.runs.folder import RunFolder

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

# What the pipeline's Fail state says when more ranks failed than are tolerated (infra/stepfunctions).
TOO_MANY_FAILED = "SkyfanIncomplete"
_LISTED_RANKS = 20


def summary_of(found: "DescribeExecutionOutputTypeDef", output: str) -> Summary:
    """The summary of an execution that succeeded.

    Raises:
        SkyfanError: it did not, as the class that its error names; the sentence has the cause and the failed ranks.
    """
    status = found["status"]
    if status == "SUCCEEDED":
        return _read(json.loads(found["output"])["summary"])
    name, cause = found.get("error", ""), lambda_message(found.get("cause", ""))
    if status == "ABORTED":
        raise Interrupted("the execution was stopped; what was committed is kept, and the same command resumes.")
    if status == "TIMED_OUT":
        raise Transient(
            "the execution reached its time limit; what was committed is kept, and the same command resumes."
        )
    if name == TOO_MANY_FAILED:
        raise _too_many_failed(_read(RunFolder(output).summary_uri), cause)
    raise by_name(name or "SkyfanError", cause or f"the execution ended as {status}.")


def _read(uri: str) -> Summary:
    return Summary.model_validate_json(store.read(uri))


def _too_many_failed(summary: Summary, cause: str) -> SkyfanError:
    """The first failed rank's own error, with the account of all; as the other targets say it."""
    done = summary.completeness
    listed = ", ".join(map(str, done.missing_ranks[:_LISTED_RANKS]))
    more = ", …" if len(done.missing_ranks) > _LISTED_RANKS else ""
    account = (
        f"ranks {listed}{more} of {done.ranks_planned} are missing; the {done.ranks_present} that are committed are "
        "kept, and the same command again computes the rest"
    )
    return first_failure(summary, account) if summary.failures else SkyfanError(f"{cause} ({account})")
