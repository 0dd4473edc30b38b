"""1,200 trivial ranks: nothing in the parent grows with the number of ranks, so that 10,000 stay within the limits.

Limits: "Step Functions service quotas", https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html.
"""

import json

import pytest

from skyfan import store
from skyfan.runs.folder import RunFolder
from tests.backends.stepfunctions.deployment import DATA, cut_samples, make_job
from tests.conftest import make_sample

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RANKS, FEW, MOST = 1200, 12, 10_000
EVENTS_LIMIT, DATA_LIMIT_BYTES = 25_000, 256 * 1024


@pytest.fixture
def trivial(deployment, tmp_path):
    """A galaxy a rank."""
    uri = f"s3://{DATA}/trivial.pt"
    store.copy_in(make_sample(tmp_path / "trivial.pt", samples=RANKS).path, uri)
    return uri


def measured(deployment, arn):
    """Events of the parent, and the largest state data of the parent and of any child, in bytes."""
    events = deployment.stack.events(arn)
    texts = [
        details[key].encode()
        for event in events
        for details in event.values()
        if isinstance(details, dict)
        for key in ("input", "output", "parameters", "cause")
        if key in details
    ]
    return len(events), max(map(len, texts))


def children(output):
    """All children that the map's ResultWriter wrote, over however many files."""
    found = [entry.uri for entry in store.list(f"{output}/map") if "SUCCEEDED_" in entry.uri]
    return [child for uri in found for child in json.loads(store.read(uri))]


def extrapolated(few, many):
    """What grows linearly from FEW to RANKS ranks, at MOST ranks."""
    return many + (many - few) / (RANKS - FEW) * (MOST - RANKS)


def test_1200_ranks_leave_the_parent_as_it_is(deployment, trivial, small_model):
    cut = {"partition_size_bytes": cut_samples(1), "workers": 30}
    few = deployment.run(make_job(trivial, "few", small_model, file_limit=FEW, **cut))
    few_events, few_bytes = measured(deployment, deployment.latest()["executionArn"])
    job = make_job(trivial, "many", small_model, **cut)
    summary = deployment.run(job)
    events, largest_bytes = measured(deployment, deployment.latest()["executionArn"])

    assert (few.completeness.ranks_present, summary.completeness.ranks_present) == (FEW, RANKS)
    assert summary.state == "complete"
    assert len(json.loads(store.read(RunFolder(job.output).combined_uri))) == RANKS
    assert events == few_events <= 40
    assert extrapolated(few_bytes, largest_bytes) < 8 * 1024 < DATA_LIMIT_BYTES
    assert extrapolated(few_events, events) < EVENTS_LIMIT

    done = children(job.output)
    assert len(done) == RANKS
    assert max(len(child["Input"]) for child in done) < 8 * 1024 < DATA_LIMIT_BYTES
    assert max(len(child["Output"]) for child in done) < 1024
    # Read whole by ItemReader and by the functions, never by a state: a few MB at 10,000 ranks.
    for uri in (RunFolder(job.output).map_items_uri, RunFolder(job.output).items_uri, RunFolder(job.output).plan_uri):
        assert store.head(uri).size_bytes / RANKS * MOST < 64 * 2**20
