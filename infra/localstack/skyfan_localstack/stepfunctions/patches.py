"""Applies the modules of this package, in an order that does not matter."""

from collections.abc import Iterator

from skyfan_localstack.stepfunctions import (
    array_tasks,
    definition,
    item_reader,
    json_path,
    lambda_client,
    map_run,
    map_run_api,
    result_writer,
)


def apply_all() -> Iterator[str]:
    """Apply every module, yielding what each patches.

    Raises:
        AttributeError: LocalStack has no such class or method any more.
    """
    modules = array_tasks, definition, item_reader, json_path, lambda_client, map_run, map_run_api, result_writer
    for module in modules:
        module.apply_patch()
        yield (module.__doc__ or "").splitlines()[0]
