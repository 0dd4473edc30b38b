"""One job as an execution of the deployed pipeline: the state machine is the fan-out."""

from typing import ClassVar

from skyfan.backends.base import Backend
from skyfan.backends.stepfunctions.access import AWS, LOCALSTACK, Access, aws_errors, open_access
from skyfan.backends.stepfunctions.execution_input import execution_name, job_in_s3, require_s3
from skyfan.backends.stepfunctions.follow import Follower
from skyfan.backends.stepfunctions.meter import CostMeter
from skyfan.backends.stepfunctions.outcome import summary_of
from skyfan.backends.stepfunctions.state_machine import Machine, find_machine
from skyfan.cost import load_prices, priced_region
from skyfan.errors import Interrupted
from skyfan.events import ExecutionStarted, Listener, PhaseStarted
from skyfan.job import LAMBDA, Job
from skyfan.records import Summary
from skyfan.serving.array_jobs import not_deployed

_CONSOLES = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}


class StepFunctionsBackend(Backend):
    """Starts one execution a job and follows it to its end; a local model is uploaded once, beside the output."""

    on: ClassVar[str]
    cancel_deadline_s = None
    takes_compute = True

    def run(self, job: Job, listener: Listener) -> Summary:
        """One execution, from its start to its end.

        Raises:
            BadInput: dataset or output is not in S3, the state machine is not there, or the run found bad input.
            Interrupted: `cancel` was called; the execution goes on unless `settings.stop_execution` says otherwise.
            SkyfanError: the execution failed; the sentence has the cause and the failed ranks.
        """
        require_s3(job, self.on)
        access = open_access(self.on)
        machine = find_machine(access, self.settings.state_machine)
        if job.compute != LAMBDA and job.compute not in machine.computes:
            raise not_deployed(job.compute)
        listener(PhaseStarted("uploading"))
        in_s3 = job_in_s3(job, self.on)
        arn, started = start(access, machine, in_s3)
        listener(started)
        prices = load_prices()
        meter = CostMeter(machine, prices, priced_region(prices, access.region))
        follower = Follower(access, arn, in_s3.output, meter, listener, sleep=self._cancelled.wait, compute=job.compute)
        found = follower.to_end(self._cancelled.is_set)
        if found is None:
            raise self._interrupted(access, arn, started)
        return summary_of(found, in_s3.output)

    def _interrupted(self, access: Access, arn: str, started: ExecutionStarted) -> Interrupted:
        if self.settings.stop_execution(started):
            stop(access, arn, "stopped by the user who followed it")
            return Interrupted("interrupted, and the execution is stopped; what is committed is kept.")
        return Interrupted(f"interrupted; the execution goes on, and `{started.stop_command}` stops it.")


class LocalStackBackend(StepFunctionsBackend):
    """`--on localstack`."""

    name = on = LOCALSTACK


class AwsBackend(StepFunctionsBackend):
    """`--on aws`."""

    name = on = AWS


def start(access: Access, machine: Machine, job: Job) -> tuple[str, ExecutionStarted]:
    """Starts an execution, and gives its ARN. The name makes it safe to ask twice: the second reply is the first's."""
    name = execution_name(job)
    with aws_errors(access.on, f"start {machine.name}"):
        started = access.states.start_execution(stateMachineArn=machine.arn, name=name, input=job.to_json())
    arn = started["executionArn"]
    stop_command = f"skyfan runs stop --on {access.on} {arn}"
    return arn, ExecutionStarted(name, stop_command, console_url(arn) if access.on == AWS else None)


def stop(access: Access, execution_arn: str, cause: str) -> None:
    """Stops an execution and the ranks it is running; no error where it has ended already."""
    with aws_errors(access.on, f"stop {execution_arn}"):
        access.states.stop_execution(executionArn=execution_arn, error="SkyfanInterrupted", cause=cause)


def console_url(execution_arn: str) -> str:
    """Where a person looks at the execution."""
    _, partition, _, region, *_ = execution_arn.split(":")
    host = _CONSOLES.get(partition, "console.aws.amazon.com")
    return f"https://{region}.{host}/states/home?region={region}#/v2/executions/details/{execution_arn}"
