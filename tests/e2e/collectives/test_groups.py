"""`--collectives`: ranks start together and end knowing the run's metrics; their group, its secret and its limits."""

import json
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfan.comm.rank_group import MAX_MEMBERS, RankGroup, form_group, group_token
from skyfan.errors import BadInput
from skyfan.records import Collectives
from skyfan.rpc.envelope import pack, unpack
from skyfan.runs.commit import RunLedger
from skyfan.science.metrics import merge_sums, metrics_of_sums, science_metrics, science_sums
from skyfan.stages import infer as core
from skyfan.stages.messages import InferRequest
from skyfan.stages.model_cache import ModelCache
from tests.e2e.collectives.ranks import RANKS, TOKEN, aggregate, but_nmad, infer, on_disk
from tests.e2e.support import assert_equal_z, make_job, predictions, run


def test_a_start_over_that_is_refused_removes_nothing(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=4, partition_size_bytes=12 * 20504)
    run(job)
    before = predictions(tmp_path / "run")["z_pred"].to_pylist()
    with pytest.raises(BadInput, match="only 1 can run here at once"):
        run(job.model_copy(update={"resume": False, "collectives": True}))
    assert predictions(tmp_path / "run")["z_pred"].to_pylist() == before


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
