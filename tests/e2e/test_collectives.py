"""`--collectives`: ranks start together and end knowing the run's metrics; nobody's end costs anybody's predictions."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfan.comm.rank_group import MAX_MEMBERS, RankGroup, form_group, group_token
from skyfan.errors import BadInput, Interrupted
from skyfan.events import RankProgress
from skyfan.job import Job
from skyfan.records import Collectives, RankRecord
from skyfan.rpc.messages import pack, unpack
from skyfan.runs.commit import RunLedger
from skyfan.science.metrics import merge_sums, metrics_of_sums, science_metrics, science_sums
from skyfan.serving.embedded_rendezvous import EmbeddedServer
from skyfan.stages import aggregate as aggregator
from skyfan.stages import collective_session
from skyfan.stages import infer as core
from skyfan.stages.messages import AggregateRequest, ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from tests.conftest import make_sample
from tests.e2e.support import assert_equal_z, make_job, predictions, run

RANKS = 3
TOKEN = "the services' token, which nobody may read anywhere"


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("SKYFAN_TOKEN", TOKEN)


def test_a_start_over_that_is_refused_removes_nothing(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=4, partition_size_bytes=12 * 20504)
    run(job)
    before = predictions(tmp_path / "run")["z_pred"].to_pylist()
    with pytest.raises(BadInput, match="only 1 can run here at once"):
        run(job.model_copy(update={"resume": False, "collectives": True}))
    assert predictions(tmp_path / "run")["z_pred"].to_pylist() == before


@pytest.fixture
def planned(sample, small_model, tmp_path):
    """What each of three ranks is asked, but for its group; batches of four."""
    job = Job(
        dataset=str(sample.path),
        model=str(small_model),
        output=str(tmp_path / "run"),
        batch_size=4,
        partition_size=12 * 20504 + 2048,
        world_size=RANKS,
    )
    models = ModelCache(threads=1)
    model = prepare(PrepareRequest(job=job), models)
    reply = plan(PlanRequest(job=job, model=model))
    file = convert(ConvertRequest(job=job, model=model), models)
    return [
        InferRequest(run_id=reply.run_id, job=job, item=item, model=file)
        for item in RunLedger(job.output).read_plan().items()
    ]


@pytest.fixture(params=["relay", "store"])
def group(request):
    """The group as every rank knows it, over either channel."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer()) if request.param == "relay" else None
        yield RankGroup(name="start-1", members=RANKS, rendezvous=server and server.address)


def infer(requests, group, controls=None):
    """All the ranks side by side; a record or an error each."""
    controls = controls or [None] * len(requests)

    def one(group_rank):
        asked = requests[group_rank].model_copy(update={"group": group.model_copy(update={"group_rank": group_rank})})
        try:
            return core.infer(asked, ModelCache(threads=1), controls[group_rank])
        except Interrupted as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, range(len(requests))))


def aggregate(request):
    return aggregator.aggregate(AggregateRequest(output=request.job.output, run_id=request.run_id, target="test"))


def but_nmad(science):
    """What ranks can know of the summary's metrics: neither a median nor a percentile is a sum."""
    sums = science.keys() - {"sigma68"}
    return {name: pytest.approx(science[name], rel=1e-9) for name in sums} | {"nmad": None}


def on_disk(request):
    return RankRecord.model_validate_json(Path(RunLedger(request.job.output).record_uri(request.item.rank)).read_text())


def test_every_rank_ends_knowing_the_runs_metrics(planned, group, tmp_path):
    records = infer(planned, group)
    summary = aggregate(planned[0])
    for request, record in zip(planned, records, strict=True):
        assert record == on_disk(request)
        met = record.collectives
        assert (met.state, met.error, met.members, met.group_rank) == ("complete", None, RANKS, record.rank)
        assert met.channel == group.channel
        assert met.science == but_nmad(summary.science)
        assert 0 <= met.launch_skew_s <= max(each.collectives.start_s for each in records)
        assert met.start_s <= record.wall_s
    assert len({json.dumps(record.collectives.science) for record in records}) == 1
    assert [record.collectives.times is not None for record in records] == [True, False, False]
    walls = [record.wall_s for record in records]
    assert records[0].collectives.times["wall_s"].max_s == max(walls)
    assert records[0].collectives.times["wall_s"].mean_s == pytest.approx(sum(walls) / RANKS)
    assert (summary.collectives.ranks, summary.collectives.complete, summary.collectives.errors) == (3, 3, {})
    assert not (tmp_path / "run" / "comm").exists()


def test_the_footer_says_started_and_the_derived_file_how_it_ended(planned, group):
    infer(planned, group)
    folder = RunLedger(planned[1].job.output)
    assert folder.read_record(1, planned[1].run_id).collectives.state == "started"
    again = core.infer(planned[1].model_copy(update={"attempt": 2}), ModelCache(threads=1))
    assert again.collectives.state == on_disk(planned[1]).collectives.state == "complete"
    aggregate(planned[0])
    combined = json.loads(Path(folder.combined_uri).read_text())
    assert [record["collectives"]["state"] for record in combined] == ["complete"] * RANKS


def test_a_rank_that_died_after_its_commit_counts_and_the_summary_names_it(planned, group):
    infer(planned, group)
    folder = RunLedger(planned[1].job.output)
    folder.write_record(folder.read_record(1, planned[1].run_id))  # as it is between commit and end
    summary = aggregate(planned[0])
    assert summary.state == "complete"
    assert list(summary.collectives.errors) == [1]


def test_a_rank_that_never_comes_costs_the_others_a_deadline_and_nothing_else(
    planned, group, expected_z, tmp_path, monkeypatch
):
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 1.0)
    records = infer(planned[:2], group)
    for record in records:
        assert record.collectives.state == "failed"
        assert "rank 2 did not join" in record.collectives.error
        assert record.collectives.science is None
    alone = core.infer(planned[2], ModelCache(threads=1))
    assert alone.collectives is None
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_a_rank_that_gives_up_is_named_by_the_others_whose_predictions_stand(planned, group):
    control = core.Control(progress=lambda done, total: control.cancelled.set())
    began = time.monotonic()
    first, second, third = infer(planned, group, [None, None, control])
    assert isinstance(third, Interrupted)
    assert time.monotonic() - began < collective_session.END_TIMEOUT_S / 2
    for request, record in zip(planned, (first, second), strict=False):
        assert record.collectives.state == "failed"
        assert record.collectives.error.startswith("PeerLost: rank 2 gave up")
        assert record.collectives.launch_skew_s is not None
        assert on_disk(request) == record
    summary = aggregate(planned[0])
    assert summary.completeness.missing_ranks == (2,)
    assert (summary.collectives.ranks, summary.collectives.complete) == (2, 0)


def test_a_rank_stopped_at_the_start_barrier_ends_at_once_and_computes_nothing(planned, group, tmp_path):
    control = core.Control()
    threading.Timer(0.5, control.cancelled.set).start()
    (stopped,) = infer(planned[:1], group, [control])
    assert isinstance(stopped, Interrupted)
    assert "rank 0 was stopped while it waited for the other ranks" in str(stopped)
    assert not (tmp_path / "run" / "predictions").exists()


def test_a_rank_stopped_while_it_waits_for_the_slowest_keeps_its_commit(planned, group):
    control, committed = core.Control(), threading.Event()

    def stop_the_first(done, total):
        record = Path(RunLedger(planned[0].job.output).predictions_uri(0))
        while not record.exists():
            time.sleep(0.02)
        control.cancelled.set()
        committed.wait(30)

    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(infer, planned, group, [control, None, core.Control(progress=stop_the_first)])
        deadline = time.monotonic() + 30
        path = Path(RunLedger(planned[0].job.output).record_uri(0))
        while not path.exists() or '"failed"' not in path.read_text():
            assert time.monotonic() < deadline, "the stopped rank still waits"
            time.sleep(0.02)
        committed.set()
        first = whole.result()[0]
    assert first == on_disk(planned[0])
    assert first.collectives.error.startswith("Interrupted")


def test_the_slowest_rank_is_waited_for_until_a_deadline(planned, group, monkeypatch):
    monkeypatch.setattr(collective_session, "END_TIMEOUT_S", 1.0)
    folder = RunLedger(planned[0].job.output)

    deadline = time.monotonic() + 30
    others = [Path(folder.record_uri(rank)) for rank in (0, 1)]

    def dawdle(done, total):
        while time.monotonic() < deadline and not all(
            path.exists() and '"state": "failed"' in path.read_text() for path in others
        ):
            time.sleep(0.02)

    began = time.monotonic()
    records = infer(planned, group, [None, None, core.Control(progress=dawdle)])
    assert time.monotonic() - began < 30
    assert [record.collectives.state for record in records[:2]] == ["failed"] * 2
    assert any("CommTimeout" in record.collectives.error for record in records[:2])
    assert aggregate(planned[0]).state == "complete"


def test_a_retry_after_the_group_was_full_goes_on_alone_and_notes_it(planned, group):
    held = threading.Barrier(2)  # keeps two ranks at work until the third has failed and tried again

    def wait(done, total):
        if done == total:
            held.wait(60)

    stop = core.Control(progress=lambda done, total: stop.cancelled.set())
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(infer, planned, group, [core.Control(progress=wait), None, stop])
        deadline = time.monotonic() + 60
        while not stop.cancelled.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        asked = planned[2].model_copy(update={"attempt": 2, "group": group.model_copy(update={"group_rank": 2})})
        record = core.infer(asked, ModelCache(threads=1))
        held.wait(60)
        whole.result()
    assert record.attempt == 2
    assert record.collectives.state == "failed"
    assert "GroupRefused" in record.collectives.error
    assert aggregate(planned[0]).state == "complete"


def test_without_a_rendezvous_server_at_its_address_ranks_go_on_alone(planned, monkeypatch):
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 0.5)
    nobody = RankGroup(name="start-1", members=RANKS, rendezvous="127.0.0.1:1")
    for record in infer(planned, nobody):
        assert record.collectives.error.startswith("RendezvousLost")
    assert aggregate(planned[0]).state == "complete"


def test_errors_after_a_resume_say_the_group_rank_of_this_rank(planned, group, monkeypatch):
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 0.3)
    two = group.model_copy(update={"members": 2, "group_rank": 0})
    record = core.infer(planned[2].model_copy(update={"group": two}), ModelCache(threads=1))
    assert record.collectives.error.endswith("(numbers are group ranks; rank 2 is 0)")


def test_no_wait_outlasts_what_the_caller_gives(planned, group):
    began = time.monotonic()
    control = core.Control(remaining_s=lambda: began + 12 - time.monotonic())
    record = infer(planned[:1], group, [control])[0]
    assert record.collectives.state == "failed"
    assert time.monotonic() - began < 15


def test_the_token_is_nowhere_to_be_read(planned, group, tmp_path, capfd):
    infer(planned, group)
    aggregate(planned[0])
    secrets = [TOKEN, group_token(planned[0].run_id, group.name)]
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    said = "".join(capfd.readouterr()) + "".join(repr(request) for request in planned)
    assert not any(secret.encode() in content for secret in secrets for content in [*written, said.encode()])


def test_a_groups_secret_is_its_own():
    made = {group_token(run_id, name) for run_id in ("a", "b") for name in ("1", "2")}
    assert len(made) == 4


def test_a_secret_follows_from_the_services_token(monkeypatch):
    before = group_token("run", "start")
    monkeypatch.setenv("SKYFAN_TOKEN", "another")
    assert group_token("run", "start") != before


@pytest.mark.parametrize("rendezvous", [None, "host:50054"])
def test_a_group_arrives_at_an_executor_as_it_was_sent(planned, rendezvous):
    asked = planned[1].model_copy(update={"group": RankGroup(name="s", members=3, group_rank=1, rendezvous=rendezvous)})
    assert unpack(pack(asked), InferRequest) == asked
    assert unpack(pack(planned[1]), InferRequest) == planned[1]


def test_ranks_that_cannot_run_at_once_are_refused_before_any_of_them_runs(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=3, collectives=True)
    with pytest.raises(BadInput, match=r"all 3 ranks .* only 1 can run .*: use --on local --workers 3, or"):
        run(job)
    assert not (tmp_path / "run" / "predictions").exists()


@pytest.mark.parametrize(
    ("members", "max_concurrency", "rendezvous", "sentence"),
    [
        (3, 2, None, "all 3 ranks .* only 2 can run here at once: give --workers 3, or make fewer ranks"),
        (257, None, None, "at most 256 ranks over the store channel, .* 257: .* or deploy the rendezvous service"),
        (1025, None, "host:1", r"at most 1,024 ranks over the relay channel, .* 1,025: make fewer .*\)\.$"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(members, max_concurrency, rendezvous, sentence):
    with pytest.raises(BadInput, match=sentence):
        form_group(
            "start",
            members,
            max_concurrency=max_concurrency,
            scale_up_hint="give --workers {ranks}",
            rendezvous=rendezvous,
        )
    form_group("start", min(members - 1, 256), max_concurrency=None, scale_up_hint="", rendezvous=rendezvous)


def test_the_limit_is_the_rendezvous_services_own():
    from skyfan.settings import RendezvousLimits

    assert MAX_MEMBERS["relay"] == RendezvousLimits().world_size


def test_records_of_earlier_versions_have_the_group_rank_as_place():
    earlier = {"state": "started", "group": "start-1", "members": 3, "place": 2, "channel": "store"}
    read = Collectives.model_validate(earlier)
    assert read.group_rank == 2
    assert Collectives.model_validate_json(read.model_dump_json(by_alias=True)) == read
    assert "place" not in read.model_dump_json(by_alias=True)


def test_a_single_rank_waits_for_none_and_has_the_metrics(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=1, collectives=True)
    summary = run(job)
    assert (summary.collectives.ranks, summary.collectives.complete) == (1, 1)
    assert summary.collectives.science == but_nmad(summary.science)


def test_collectives_change_neither_the_run_nor_its_predictions(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "a", world_size=1)
    plain = run(job)
    other = run(job.model_copy(update={"output": str(tmp_path / "b"), "collectives": True}))
    assert plain.run_id == other.run_id
    assert plain.collectives is None
    assert predictions(tmp_path / "a").equals(predictions(tmp_path / "b"))


def test_after_a_resume_the_group_is_the_ranks_that_were_missing(sample, small_model, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, world_size=3)
    run(job)
    (output / "predictions" / "rank-0000001.parquet").unlink()
    summary = run(job.model_copy(update={"collectives": True}))
    assert (summary.collectives.ranks, summary.collectives.complete) == (1, 1)
    missing = pq.read_metadata(output / "predictions" / "rank-0000001.parquet").num_rows
    assert summary.collectives.science["samples"] == missing < summary.science["samples"]


Z_PRED = st.floats(-0.5, 3, width=32) | st.just(float("nan"))
Z_SPEC = st.floats(0, 2, width=32) | st.sampled_from([0.25, 0.5])
SHARES = st.lists(st.lists(st.tuples(Z_PRED, Z_SPEC), max_size=8), min_size=1, max_size=6)


@given(SHARES)
def test_metrics_of_merged_shares_are_those_of_the_whole(shares):
    arrays = [np.array(share, np.float32).reshape(-1, 2) for share in shares]
    merged = science_sums(arrays[0][:, 0], arrays[0][:, 1])
    for array in arrays[1:]:
        merged = merge_sums(merged, science_sums(array[:, 0], array[:, 1]))
    whole = np.concatenate(arrays)
    expected, found = science_metrics(whole[:, 0], whole[:, 1]), metrics_of_sums(merged)
    if expected is None:
        assert found is None
        return
    for name in ("samples", "bias", "mae", "mse", "r2", "outlier_fraction_005", "outlier_fraction_015"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-12, nan_ok=True), name
    assert np.isnan(found.nmad)


@pytest.mark.slow
def test_local_starts_the_rendezvous_service_and_leaves_nothing_running(sample, small_model, expected_z, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=3, workers=3, collectives=True)
    summary = run(job, "local")
    assert (summary.collectives.channel, summary.collectives.complete) == ("relay", 3)
    assert summary.collectives.science == but_nmad(summary.science)
    assert_equal_z(predictions(tmp_path / "run"), expected_z)
    assert not [p for p in psutil.Process().children(recursive=True) if "services." in " ".join(p.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_executor_that_dies_or_freezes_is_named_by_the_others(small_model, tmp_path, number):
    large = make_sample(tmp_path / "large.pt", samples=3000)
    job = make_job(large.path, small_model, tmp_path / "run", batch_size=4, world_size=3, workers=3, collectives=True)
    hit, begun = [], set()

    def listener(event):
        if isinstance(event, RankProgress):
            begun.add(event.rank)
        if len(begun) == 3 and not hit:  # a killed executor that had no partition yet loses nothing
            executors = [p for p in psutil.Process().children() if "skyfan.serving executor" in " ".join(p.cmdline())]
            os.kill(executors[0].pid, number)
            hit.append(executors[0])
            if number == signal.SIGSTOP:  # dead in the end, so that the driver's call ends
                threading.Timer(25, executors[0].kill).start()

    began = time.monotonic()
    summary = run(job, "local", listener)
    assert hit
    assert time.monotonic() - began < collective_session.END_TIMEOUT_S / 2
    assert summary.state == "complete"
    records = [json.loads((tmp_path / "run" / f"{rank}.json").read_text()) for rank in range(3)]
    (victim,) = [record["rank"] for record in records if record["attempt"] == 2]
    for record in records:
        expected = "GroupRefused" if record["rank"] == victim else f"rank {victim} was lost"
        assert expected in record["collectives"]["error"]
