"""`skyfan comm check` where runs run: every rank is an executor, in a container or as a Lambda function."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from skyfan.backends.compose import ComposeServices
from skyfan.backends.grpc_services import call_unary
from skyfan.backends.stepfunctions.access import aws_errors, open_access
from skyfan.backends.stepfunctions.state_machine import find_machine
from skyfan.comm.check_messages import RankCheck, RankReport
from skyfan.errors import BadInput, by_name

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# Starting a function from its image, before it can join.
COLD_START_S = 60.0
MAX_FUNCTIONS = 256


def check_in_containers(work: RankCheck, timeout_s: float) -> list[RankReport]:
    """One rank an executor of the compose stack, which must have as many; `timeout_s` for all of it.

    Raises:
        BadInput: there are fewer.
        SkyfanError: a rank failed.
    """

    async def go() -> list[RankReport]:
        async with ComposeServices(workers=work.world_size) as target:
            if target.max_concurrency < work.world_size:
                raise BadInput(
                    f"--world-size {work.world_size} needs as many executors, and {target.max_concurrency} answer: "
                    f"EXECUTORS={work.world_size} docker compose up --detach --wait partitioner executor rendezvous"
                )
            met = work.model_copy(update={"rendezvous": work.rendezvous or target.rendezvous})
            # The first that fails is the cause: the others fail because of it, or are cancelled with the loop.
            return await asyncio.gather(*(_in_container(target, each, timeout_s) for each in _ranks(met)))

    return asyncio.run(go())


def _ranks(work: RankCheck) -> list[RankCheck]:
    return [work.model_copy(update={"rank": rank}) for rank in range(work.world_size)]


async def _in_container(target: ComposeServices, work: RankCheck, timeout_s: float) -> RankReport:
    async with target.pool.lease() as executor:
        where = f"rank {work.rank}, executor {executor.address}"
        return await call_unary(executor.stub.CheckComm, work, RankReport, where, deadline_s=timeout_s)


def check_in_functions(work: RankCheck, on: str, state_machine: str, timeout_s: float) -> list[RankReport]:
    """One rank an invocation of the deployed pipeline's executor, all at once; `timeout_s` for each.

    The group's secret is in no event: each function derives it from the services' token in Secrets Manager.

    Raises:
        BadInput: neither a rendezvous server nor a store is named, a token is given, or there are too many ranks.
        SkyfanError: a rank failed.
    """
    if work.rendezvous is None and work.store is None:
        raise BadInput(
            f"--on {on} needs a way for functions to exchange messages: --rendezvous HOST:PORT (terraform output "
            "rendezvous), or --store s3://BUCKET/runs/check, where the executor may write."
        )
    if work.world_size > MAX_FUNCTIONS:
        raise BadInput(f"--world-size {work.world_size} is more than a check starts as functions: {MAX_FUNCTIONS}.")
    if work.token is not None:
        raise BadInput(
            f"--on {on} takes no --token (or SKYFAN_GROUP_TOKEN): functions derive the group's secret from the "
            "services' token, which an event must not carry; leave it out."
        )
    machine = find_machine(open_access(on), state_machine)
    functions = _client(work.world_size, timeout_s)
    with ThreadPoolExecutor(work.world_size) as pool:
        return list(pool.map(lambda each: _as_function(functions, machine.executor, on, each), _ranks(work)))


def _client(connections: int, timeout_s: float) -> "LambdaClient":
    """A client without retries: the second invocation of a rank would be refused by the group."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=timeout_s + COLD_START_S,
        retries={"total_max_attempts": 1},
        max_pool_connections=connections,
    )
    return boto3.client("lambda", config=config)


def check_event(work: RankCheck) -> dict[str, object]:
    """The executor's event for one rank. It never has the group's secret: events may be logged and kept."""
    return {"op": "check_comm", "rank": work.rank, "work": work.model_dump(mode="json", exclude={"token"})}


def _as_function(functions: "LambdaClient", executor: str, on: str, work: RankCheck) -> RankReport:
    with aws_errors(on, f"invoke {executor}"):
        answer = functions.invoke(FunctionName=executor, Payload=json.dumps(check_event(work)).encode())
        content = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        message = str(content.get("errorMessage", content))
        raise by_name(content.get("errorType", "SkyfanError"), f"rank {work.rank}: {message}")
    return RankReport.model_validate(content)
