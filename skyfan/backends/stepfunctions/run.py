"""One job as an execution of the deployed pipeline: the state machine is the fan-out."""

from collections.abc import Callable
from dataclasses import dataclass

from skyfan.backends.stepfunctions.access import AWS, Access, aws_errors, open_access
from skyfan.backends.stepfunctions.follow import Follower
from skyfan.backends.stepfunctions.machine import DEFAULT_STATE_MACHINE, Machine, find_machine
from skyfan.backends.stepfunctions.meter import CostMeter, priced_region
from skyfan.backends.stepfunctions.outcome import summary_of
from skyfan.backends.stepfunctions.request import check_places, execution_name, request_of
from skyfan.cost import load_prices
from skyfan.events import Listener, PhaseStarted
from skyfan.job import Job
from skyfan.records import Summary
from skyfan.reference_payload import RunRequest

_CONSOLES = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}


@dataclass(frozen=True, slots=True)
class Execution:
    """A started execution; `console_url` is None where there is no console."""

    arn: str
    name: str
    console_url: str | None


OnStart = Callable[[Execution], None]
OnInterrupt = Callable[[Execution], bool]


def run_on_stepfunctions(
    job: Job,
    on: str,
    listener: Listener,
    *,
    state_machine: str = DEFAULT_STATE_MACHINE,
    on_start: OnStart = lambda _: None,
    on_interrupt: OnInterrupt = lambda _: False,
) -> Summary:
    """Runs or resumes the job as one execution and follows it to its end.

    A local model is uploaded once, beside the output. On KeyboardInterrupt `on_interrupt` decides whether the
    execution is stopped; either way the interrupt goes on to the caller. What ranks committed stays.

    Raises:
        BadInput: dataset or output is not in S3, the state machine is not there, or the run itself found bad input.
        SkyfanError: the execution failed; the sentence has the cause and the failed ranks.
    """
    check_places(job, on)
    access = open_access(on)
    machine = find_machine(access, state_machine)
    listener(PhaseStarted("uploading"))
    request = request_of(job, on)
    execution = start(access, machine, request)
    on_start(execution)
    prices = load_prices()
    meter = CostMeter(machine, prices, priced_region(prices, access.region))
    follower = Follower(access, execution.arn, request.output, meter, listener)
    try:
        found = follower.to_end()
    except KeyboardInterrupt:
        if on_interrupt(execution):
            stop(access, execution.arn, "stopped by the user who followed it")
        raise
    return summary_of(found, request.output)


def start(access: Access, machine: Machine, request: RunRequest) -> Execution:
    """Starts an execution. The name makes it safe to ask twice: the second answer is the first execution."""
    name, text = execution_name(request), request.model_dump_json(exclude={"source", "warnings"})
    with aws_errors(access.on, f"start {machine.name}"):
        started = access.states.start_execution(stateMachineArn=machine.arn, name=name, input=text)
    arn = started["executionArn"]
    return Execution(arn, name, console_url(arn) if access.on == AWS else None)


def stop(access: Access, execution_arn: str, cause: str) -> None:
    """Stops an execution and the ranks it is running; no error where it has ended already."""
    with aws_errors(access.on, f"stop {execution_arn}"):
        access.states.stop_execution(executionArn=execution_arn, error="SkyfanInterrupted", cause=cause)


def console_url(execution_arn: str) -> str:
    """Where a person looks at the execution."""
    _, partition, _, region, *_ = execution_arn.split(":")
    host = _CONSOLES.get(partition, "console.aws.amazon.com")
    return f"https://{region}.{host}/states/home?region={region}#/v2/executions/details/{execution_arn}"
