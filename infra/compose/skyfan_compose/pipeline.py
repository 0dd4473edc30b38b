"""`python -m skyfan_compose.pipeline [COMMAND …]`: makes in LocalStack what Terraform makes on AWS.

Functions, state machine, buckets (SKYFAN_BUCKETS) and the demo dataset are made or brought up to date, so that it
may run again. Then the `skyfan` command runs, if one is given. Needs AWS_ENDPOINT_URL.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import boto3
import structlog

from skyfan import logs
from skyfan.aws_limits import LAMBDA_MB_PER_VCPU, LAMBDA_TIMEOUT_S
from skyfan.backends.base import DEFAULT_STATE_MACHINE
from skyfan.cli.demo import make_demo_dataset
from skyfan.errors import BadInput
from skyfan.serving.lambda_events import STATUS_CHANGE
from skyfan_compose.buckets import make_buckets
from skyfan_compose.caller import act_as_caller
from skyfan_compose.definition import Batch, SageMaker, Variables, render

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

FUNCTIONS = ("partitioner", "executor", "executor-torch", "aggregator")
DEMO_DATASET = "s3://skyfan-data/demo.pt"
# The size of one vCPU; compose.yaml decides what a container really has.
MEMORY_MB = LAMBDA_MB_PER_VCPU
QUEUE, JOB = "skyfan-cpu", "skyfan-executor"
JOB_COMMAND = ["python", "-m", "services.executor.job", "Ref::output", "--start", "Ref::start", "--tasks", "Ref::tasks"]
# LocalStack looks at neither; AWS would.
ACCOUNT, ROLE = "000000000000", "arn:aws:iam::000000000000:role/skyfan"


def main() -> None:
    """Makes the pipeline; then the command, as the user who called `docker compose`."""
    act_as_caller()
    make_pipeline()
    if len(sys.argv) > 1:
        from skyfan.cli import main as skyfan

        skyfan()


def make_pipeline() -> None:
    """Makes everything, in the order in which it is needed.

    Raises:
        BadInput: no endpoint is set, and this is not for AWS itself.
    """
    logs.configure("pipeline", level="info")
    if not os.environ.get("AWS_ENDPOINT_URL"):
        raise BadInput("AWS_ENDPOINT_URL is not set: this makes a pipeline in LocalStack, Terraform makes it on AWS.")
    log = structlog.get_logger()
    make_buckets()
    functions = boto3.client("lambda")
    arns = {name: make_function(functions, f"skyfan-{name}") for name in FUNCTIONS}
    log.info("functions are there", functions=sorted(arns.values()))
    # Both schedulers run every task in one image.
    job = register_job(boto3.client("batch"))
    definition = render(
        Variables(
            partitioner_arn=arns["partitioner"],
            executor_arn=arns["executor"],
            executor_torch_arn=arns["executor-torch"],
            aggregator_arn=arns["aggregator"],
        ),
        batch=Batch(batch_queue_arn=QUEUE, batch_job_arn=job, batch_torch_job_arn=job),
        sagemaker=SageMaker(sagemaker_role_arn=ROLE, sagemaker_image_uri="skyfan-executor-torch"),
    )
    machine = make_state_machine(boto3.client("stepfunctions"), definition)
    log.info("state machine is there", arn=machine)
    make_stop_rule(boto3.client("events"), machine, arns["aggregator"])
    make_demo_dataset(DEMO_DATASET, quiet=True)
    log.info("dataset is there", uri=DEMO_DATASET)


def make_function(functions: "LambdaClient", name: str) -> str:
    """An image function whose containers run already; one that is there stays. Its ARN comes back."""
    try:
        return functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    except functions.exceptions.ResourceNotFoundException:
        made = functions.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": f"{ACCOUNT}.dkr.ecr.{functions.meta.region_name}.amazonaws.com/{name}:local"},
            Role=ROLE,
            Timeout=LAMBDA_TIMEOUT_S,
            MemorySize=MEMORY_MB,
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        return made["FunctionArn"]


def register_job(batch: Any) -> str:
    """The job definition of infra/terraform/batch.tf, as far as the emulated Batch looks at it; its name comes back.

    `batch` is boto3's client of AWS Batch.
    """
    batch.register_job_definition(
        jobDefinitionName=JOB,
        type="container",
        parameters={"output": "", "start": "", "tasks": "1"},
        containerProperties={"image": "skyfan-executor-torch", "command": JOB_COMMAND},
        retryStrategy={
            "attempts": 5,
            "evaluateOnExit": [{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}],
        },
    )
    return JOB


def make_state_machine(states: "SFNClient", definition: str) -> str:
    """The pipeline with this definition; one that is there is brought up to date. Its ARN comes back."""
    arn = f"arn:aws:states:{states.meta.region_name}:{ACCOUNT}:stateMachine:{DEFAULT_STATE_MACHINE}"
    try:
        states.update_state_machine(stateMachineArn=arn, definition=definition)
    except states.exceptions.StateMachineDoesNotExist:
        arn = states.create_state_machine(name=DEFAULT_STATE_MACHINE, definition=definition, roleArn=ROLE)[
            "stateMachineArn"
        ]
    return arn


def make_stop_rule(events: Any, machine: str, aggregator: str) -> None:
    """The rule of infra/terraform/stopping.tf: the aggregator hears of executions that were stopped or timed out.

    `events` is boto3's client of EventBridge.
    """
    name = f"{machine.rpartition(':')[2]}-stopped"
    pattern = {
        "source": ["aws.states"],
        "detail-type": [STATUS_CHANGE],
        "detail": {"status": ["ABORTED", "TIMED_OUT"], "stateMachineArn": [machine]},
    }
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "aggregator", "Arn": aggregator}])


if __name__ == "__main__":
    main()
