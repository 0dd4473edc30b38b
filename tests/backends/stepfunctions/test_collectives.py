"""`collectives` in an execution's input: what the states hand on, and functions that meet; without LocalStack."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest

from skyfan import store
from skyfan.backends.comm_check import check_event
from skyfan.comm.check_messages import RankCheck
from skyfan.comm.connection import RENDEZVOUS_VARIABLE
from skyfan.comm.rank_group import group_token
from skyfan.rpc.service_token import TOKEN_VARIABLE
from skyfan.runs.folder import RunFolder
from skyfan.serving.embedded_rendezvous import EmbeddedServer
from tests.backends.stepfunctions.deployment import cut_samples
from tests.backends.stepfunctions.runtime_api import worker

# Imported, so that pytest finds these fixtures here, too.
from tests.backends.stepfunctions.test_handlers import (  # noqa: F401
    begin,
    converted,
    environment,
    given,
    infer_event,
    items_of,
    prepare_and_plan,
    record,
)

pytestmark = pytest.mark.slow

TOKEN = "the services' token, from the secret"


@pytest.fixture(params=["relay", "store"])
def deployed(request, environment, tmp_path, monkeypatch):  # noqa: F811
    """A partitioner and two executors, with a rendezvous service or without, as Terraform deploys them."""
    with ExitStack() as stack:
        settings = {"partitioner": {}, "executor": {}, "aggregator": {}}
        if request.param == "relay":
            monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
            server = stack.enter_context(EmbeddedServer())
            monkeypatch.delenv(TOKEN_VARIABLE)  # of the functions' environment; the server is given it again below
            secret = boto3.client("secretsmanager").create_secret(Name=request.node.name, SecretString=TOKEN)["ARN"]
            settings["partitioner"] = {RENDEZVOUS_VARIABLE: server.address}
            settings["executor"] = {"SKYFAN_TOKEN_SECRET": secret}
        found = {}
        for name in ("partitioner", "executor", "executor-2", "aggregator"):
            service = name.partition("-")[0]
            folder = tmp_path / name
            folder.mkdir()
            found[name] = stack.enter_context(worker(service, folder, environment | settings[service]))
        if request.param == "relay":
            monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        yield request.param, found


def test_ranks_as_functions_end_knowing_the_metrics(deployed, given):  # noqa: F811
    channel, workers = deployed
    asked = given | {"collectives": True, "partition_size_bytes": cut_samples(60)}
    execution, prepared, plan = prepare_and_plan(workers, asked)
    assert plan["group"]["name"] == execution["name"]
    assert plan["group"]["members"] == plan["ranks_to_run"] == 2
    assert [item["group_rank"] for item in items_of(plan)] == [0, 1]
    model = converted(workers, prepared, execution)
    with ThreadPoolExecutor(2) as pool:
        events = [infer_event(prepared, plan, item, model) | {"group": plan["group"]} for item in items_of(plan)]
        answers = list(pool.map(lambda at, event: workers[at].invoke(event), ("executor", "executor-2"), events))
    assert [answer["status"] for answer in answers] == ["committed"] * 2

    event = {"op": "aggregate", "job": prepared["job"], "plan": plan, "map": {}}
    workers["aggregator"].invoke(event | {"map_ended_at": execution["started_at"], "execution": execution})
    summary = json.loads(store.read(RunFolder(given["output"]).summary_uri))
    assert (summary["collectives"]["channel"], summary["collectives"]["complete"]) == (channel, 2)
    for rank in range(2):
        met = record(given["output"], rank).collectives
        assert (met.state, met.error) == ("complete", None)
        assert met.science["mae"] == pytest.approx(summary["science"]["mae"], rel=1e-9)
    assert not list(store.list(f"{given['output']}/comm/"))
    _assert_unreadable(
        [TOKEN, group_token(plan["run_id"], execution["name"])], given["output"], workers, [plan, events]
    )


def _assert_unreadable(secrets, output, workers, handed_on):
    """No secret in the run's folder, in any log, or in what the states hand on (the execution's history)."""
    contents = [store.read(entry.uri) for entry in store.list(output)]
    contents += [Path(each.log).read_bytes() for each in workers.values()] + [json.dumps(handed_on).encode()]
    assert not any(secret.encode() in content for secret in secrets for content in contents)


def test_a_plan_whose_ranks_cannot_run_at_once_is_refused(deployed, given):  # noqa: F811
    _, workers = deployed
    _, _, refused = prepare_and_plan(workers, given | {"collectives": True, "workers": 2})
    assert refused["errorType"] == "SkyfanBadInput"
    assert "needs all 3 ranks of this run at once, and only 2 can run here" in refused["errorMessage"]
    assert "--workers" in refused["errorMessage"]
    _, _, plan = prepare_and_plan(workers, given | {"collectives": True})
    assert plan["group"]["members"] == 3


def test_functions_are_the_ranks_of_a_communication_check(deployed, given):  # noqa: F811
    channel, workers = deployed
    asked = {"rank": 0, "world_size": 2, "run": given["output"].rpartition("/")[2], "channel": channel, "budget_s": 1.0}
    if channel == "relay":
        plan = prepare_and_plan(workers, given | {"collectives": True})[2]
        asked |= {"rendezvous": plan["group"]["rendezvous"]}
    else:
        asked |= {"store": given["output"]}
    with ThreadPoolExecutor(2) as pool:
        work = RankCheck.model_validate(asked)
        events = [check_event(work.model_copy(update={"rank": rank})) for rank in range(2)]
        reports = list(pool.map(lambda at, event: workers[at].invoke(event), ("executor", "executor-2"), events))
    assert [(report["rank"], report["channel"]) for report in reports] == [(0, channel), (1, channel)]
    assert reports[0]["ping_pong"][0]["size_bytes"] == 8
    _assert_unreadable([TOKEN, group_token(work.run, "check")], given["output"], workers, events)


def test_without_collectives_there_is_no_group(deployed, given):  # noqa: F811
    _, workers = deployed
    assert prepare_and_plan(workers, given)[2]["group"] is None
