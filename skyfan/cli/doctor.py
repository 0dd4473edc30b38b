"""`skyfan doctor`: is everything there that a run needs?"""

from collections.abc import Iterator
from typing import Annotated

import typer

from skyfan.backends.base import DEFAULT_STATE_MACHINE
from skyfan.backends.registry import BUILT_IN
from skyfan.backends.stepfunctions.access import STEP_FUNCTIONS_TARGETS
from skyfan.cli import options
from skyfan.cli.console import out, print_json
from skyfan.diagnosis import FAIL, OK, Finding, examine_machine, examine_storage
from skyfan.errors import BadInput
from skyfan.plain_text import printable

_WORKERS = 1000


def doctor(
    output: Annotated[
        str, typer.Option(help="Where results would go (path or URI): tried, and left as it was.")
    ] = "runs",
    on: options.On = "local",
    workers: Annotated[int, typer.Option(min=1, help="Ranks at once, to compare with the limits on aws.")] = _WORKERS,
    collectives: Annotated[bool, typer.Option("--collectives", help="Ranks have to run at once, on aws.")] = False,
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    as_json: options.Json = False,
) -> None:
    """Check what a run needs: versions, engine, memory, store, credentials, clock, disk, sandbox; on aws, quotas.

    Exit codes: 0 nothing would make a run fail, 2 something would.
    """
    if on not in BUILT_IN:
        raise BadInput(f"--on {on} is not a backend; choose one of {', '.join(BUILT_IN)}.")
    findings = []
    for finding in _examine(output, on, workers, state_machine, together=collectives):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = any(finding.state == FAIL for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": findings})
    if failed:
        raise typer.Exit(BadInput.exit_code)


def _examine(output: str, on: str, workers: int, state_machine: str, *, together: bool) -> Iterator[Finding]:
    in_functions = on in STEP_FUNCTIONS_TARGETS
    if in_functions:
        from skyfan.backends.stepfunctions.access import prepare_environment

        prepare_environment(on)
    yield from examine_machine(runs_ranks=not in_functions)
    yield from examine_storage(output)
    if in_functions:
        from skyfan.backends.stepfunctions.preflight import examine_account

        yield from examine_account(on, state_machine, workers, together=together)


def _show(finding: Finding) -> None:
    lines = [f"{finding.state:<5}{finding.subject}: {finding.found}"]
    if finding.state != OK:
        lines.append(f"{'':<5}→ {finding.remedy}")
    for line in lines:
        out.print(printable(line))
