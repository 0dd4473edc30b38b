"""What LocalStack 2026.3.0 does differently from AWS Step Functions, and Skyfan relies on.

Each module mends one group of behaviours and names AWS's page about it. What stays different is listed in
infra/localstack/README.md.
"""

from collections.abc import Iterator

from skyfan_localstack.stepfunctions import definition, item_reader, map_run, map_run_api, result_writer


def mend_all() -> Iterator[str]:
    """Apply every module, yielding what each mends.

    Raises:
        AttributeError: LocalStack has no such class or method any more.
    """
    for module in (definition, item_reader, map_run, map_run_api, result_writer):
        module.mend()
        yield (module.__doc__ or "").splitlines()[0]
