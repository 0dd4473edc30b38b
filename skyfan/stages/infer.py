"""Inference of one rank: read ahead, predict batch by batch, commit once."""

import functools
import os
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from skyfan.engines import Engine
from skyfan.errors import Interrupted, RankTooLarge
from skyfan.events import Progress, unwatched
from skyfan.formats import checksums
from skyfan.planning import PlanItem
from skyfan.records import MB, Collectives, RankRecord
from skyfan.runs.commit import RunLedger
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.stages.batches import Columns, Outputs, predictions
from skyfan.stages.collective_session import CollectiveSession
from skyfan.stages.known_redshifts import require_real_redshifts
from skyfan.stages.measure import Stopwatch, lambda_function, peak_rss_bytes, request_times, reset_peak_rss
from skyfan.stages.messages import InferRequest
from skyfan.stages.missing_values import MissingValues
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.preprocess import Preprocessing
from skyfan.stages.read_ahead import ReadAhead
from skyfan.stages.result_columns import kept_columns, label_column, result_columns
from skyfan.units import format_size

# Encoding and uploading a rank's predictions.
COMMIT_MARGIN_S = 5.0
# How long a rate must have been seen before it is taken for the rank's.
SURE_AFTER_S = 10.0


@dataclass
class Control:
    """How the caller watches and stops a rank."""

    progress: Progress = unwatched
    cancelled: threading.Event = field(default_factory=threading.Event)
    remaining_s: Callable[[], float] | None = None
    """Seconds until the caller would kill this rank; None where nobody does."""


def infer(request: InferRequest, models: ModelCache, control: Control | None = None) -> RankRecord:
    """Computes one rank and commits its predictions; the answer is the record that counts.

    If the rank was committed before (a retry, a duplicate, a resumed run), nothing is computed again. What the ranks of
    a group tell each other comes after the commit, so that no other rank's end can undo this one's work.
    """
    control = control or Control()
    ledger, job = RunLedger(request.job.output, request.item.results_schema), request.job
    item = request.item
    log = structlog.get_logger("executor").bind(run_id=request.run_id, rank=item.rank)
    committed = ledger.committed_record(item.rank, request.run_id)
    if committed:
        committed = ledger.reconcile_record(committed)
        log.info("rank was committed before", attempt=request.attempt)
        return committed
    require_real_redshifts(item.files)
    log.info("rank started", samples=item.samples, attempt=request.attempt, data=item.data_path)
    reset_peak_rss()
    watch = Stopwatch()
    file = request.model
    cold_start = not models.has_engine(file.digest, job.options, item.files[0])
    with watch.phase("load"):
        engine = models.engine(file.uri, file.digest, job.options, item.files[0], file.parts)
        inputs = engine.bind(item.files[0].names)
        # Beside what is kept, labels: by them classes are judged.
        labels = label_column(job, item.files[0])
        kept = tuple(dict.fromkeys([*kept_columns(job, item.files[0], inputs), *([labels] if labels else [])]))
        columns = Columns(inputs, kept, Preprocessing(job), item.files[0].validities)
    with CollectiveSession(request, control.remaining_s, control.cancelled) as session, PredictionsWriter() as writer:
        session.start()
        read = checksums.ReadChecksums() if job.verify_reads else None
        reader = ReadAhead(item, columns.read, job.batch_size, engine.allocate, engine.read_buffers, read)
        outputs = Outputs(
            functools.partial(result_columns, job, item.files[0], inputs, engine, half_width=file.half_width),
            writer,
            MissingValues(job),
        )
        _predict_all(request, engine, columns, reader, outputs, watch, control)
        if read:
            checksums.verify(item.files, read.ranges())
        with watch.phase("write"):
            outputs.flush()
            writer.flush()
        ours = _record(request, engine, watch, reader, outputs, cold_start=cold_start, collectives=session.outcome)
        record = ledger.commit(writer, ours)
        log.info("rank committed", wall_s=round(record.wall_s, 3), samples_per_s=round(record.sample_persec, 1))
        session.end(outputs.sums, ours)
    if session.outcome is not None and record is ours:
        record = record.model_copy(update={"collectives": session.outcome})
        ledger.write_record(record)
    return record


def _predict_all(
    request: InferRequest,
    engine: Engine,
    columns: Columns,
    reader: ReadAhead,
    outputs: Outputs,
    watch: Stopwatch,
    control: Control,
) -> None:
    item, done = request.item, 0

    def go_on() -> None:
        if control.cancelled.is_set():
            raise Interrupted(f"rank {item.rank} was stopped after {done} of {item.samples} samples.")

    with closing(predictions(engine, reader, columns, outputs.missing_values, watch, go_on)) as found:
        for batch, output in found:
            with watch.phase("write"):
                outputs.add(batch, output)
            done += len(output)
            control.progress(done, item.samples)
            _check_time(item, done, watch, control)


def _check_time(item: PlanItem, done: int, watch: Stopwatch, control: Control) -> None:
    """Gives up while there is time to say why, instead of being killed with nothing said."""
    if control.remaining_s is None:
        return
    busy_s = watch.seconds("wait") + watch.seconds("compute")
    needed_s = busy_s / done * (item.samples - done) + COMMIT_MARGIN_S
    left_s = control.remaining_s()
    if done < item.samples and needed_s > left_s and (busy_s > SURE_AFTER_S or left_s < COMMIT_MARGIN_S):
        fitting = int((busy_s + left_s - COMMIT_MARGIN_S) / busy_s * done)
        size = format_size(max(1, fitting) * item.files[0].sample_bytes)
        raise RankTooLarge(
            f"rank {item.rank} did {done} of {item.samples} samples and would need {needed_s:.0f} s more, but has "
            f"{max(0.0, left_s):.0f} s; plan partitions of at most {size}, or give the executor more processors "
            "(on Lambda: more memory)."
        )


def _record(
    request: InferRequest,
    engine: Engine,
    watch: Stopwatch,
    reader: ReadAhead,
    outputs: Outputs,
    *,
    cold_start: bool,
    collectives: Collectives | None,
) -> RankRecord:
    item, info, stats, wall_s = request.item, engine.info, reader.stats, watch.wall_s
    peak = peak_rss_bytes()
    return RankRecord(
        cpu_s=watch.cpu_s,
        peak_rss_mb=peak / MB,
        batch_s=watch.seconds("compute") / outputs.batches,
        num_batches=outputs.batches,
        batch_size=request.job.batch_size,
        device=info.device,
        throughput_bps=stats.bytes_read * 8 / wall_s,
        sample_persec=item.samples / wall_s,
        result_path=request.job.output,
        data_path=item.data_path,
        **request_times(stats),
        run_id=request.run_id,
        rank=item.rank,
        world_size=item.world_size,
        attempt=request.attempt,
        samples=item.samples,
        **outputs.counts(),
        column_sha256=outputs.writer.column_sha256,
        wall_s=wall_s,
        load_s=watch.seconds("load"),
        read_s=reader.read_s,
        wait_s=watch.seconds("wait"),
        compute_s=watch.seconds("compute"),
        write_s=watch.seconds("write"),
        peak_rss_bytes=peak,
        bytes_read=stats.bytes_read,
        started_at=watch.started_at.isoformat(),
        # Not the clock's present time, which may have been set meanwhile.
        ended_at=(watch.started_at + timedelta(seconds=wall_s)).isoformat(),
        host=socket.gethostname(),
        pid=os.getpid(),
        **lambda_function(),
        threads=info.threads,
        engine=info.name,
        engine_version=info.version,
        engine_reason=info.reason,
        precision=info.precision,
        deviation=info.deviation,
        torch_version=info.torch_version,
        compiled=info.compiled,
        piece_samples=info.piece_samples,
        model_digest=request.model.source_digest,
        cold_start=cold_start,
        collectives=collectives,
        read_checksums=reader.checksums.ranges() if reader.checksums else None,
    )
