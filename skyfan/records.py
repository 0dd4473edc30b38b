"""What a rank reports of itself, and what a run reports of all ranks.

`RankRecord` has the reference system's keys (`total_cpu_time (seconds)` and so on) with true values in them,
and ours beside them. The reference measured profiler time (nested operators counted more than once) and the
sum of all allocations; a record with a `schema` key holds process CPU time and peak resident memory instead.
Nothing may average records with and without that key (docs/reference/records.md).
"""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from skyfan.layout import RowsChecksum

RECORD_SCHEMA: Literal["skyfan.rank-record/1"] = "skyfan.rank-record/1"
SUMMARY_SCHEMA: Literal["skyfan.summary/1"] = "skyfan.summary/1"
MB = 2**20
MAX_LISTED_FAILURES = 100
"""Failed ranks that are listed with their errors, at most."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, protected_namespaces=(), ser_json_inf_nan="null")


class TimeOverRanks(_Record):
    """One time of the rank records, over all ranks of a group."""

    mean_s: float
    max_s: float


class Collectives(_Record):
    """What a rank of a run with `--collectives` saw of the others; docs/explanation/communication.md explains it.

    The record in the Parquet footer holds what was known at the commit (`started`, or `failed`); `<rank>.json`
    holds how it ended, unless the rank died in between.
    """

    state: Literal["started", "complete", "failed"]
    error: str | None = Field(default=None, description="why this rank went on alone")
    group: str = Field(description="the start of the run that these ranks belong to")
    members: int
    group_rank: int = Field(
        validation_alias=AliasChoices("group_rank", "place"),  # records before 2026-12 have `place`
        description="this rank's number in the group, by which errors name ranks",
    )
    channel: Literal["relay", "store"]
    start_s: float | None = Field(default=None, description="wall seconds at the start barrier; part of wall_s")
    launch_skew_s: float | None = Field(default=None, description="last rank's arrival − first rank's arrival")
    end_s: float | None = Field(
        default=None, description="wall seconds from this rank's commit to the end; not in wall_s"
    )
    science: dict[str, float | None] | None = Field(
        default=None, description="metrics of all ranks of the group; nmad is null: a median is not a sum"
    )
    times: dict[str, TimeOverRanks] | None = Field(
        default=None, description="at group rank 0: a time's key → over ranks"
    )


class RankRecord(_Record):
    """Measurements of one rank. `<rank>.json` is its JSON, by alias."""

    # The reference system's keys.
    cpu_s: float = Field(alias="total_cpu_time (seconds)", description="CPU seconds of the process in this rank")
    peak_rss_mb: float = Field(alias="total_cpu_memory (MB)", description="peak resident memory / 2^20")
    batch_s: float = Field(alias="execution_time (seconds/batch)", description="wall seconds of compute a batch")
    num_batches: int
    batch_size: int
    device: str
    throughput_bps: float = Field(description="bits of tensor data read / wall seconds")
    sample_persec: float = Field(description="samples / wall seconds")
    result_path: str
    data_path: str
    s3_num_requests: int
    s3_total_time: float
    s3_avg_time: float | None
    s3_min_time: float | None
    s3_max_time: float | None
    # Ours.
    schema_: Literal["skyfan.rank-record/1"] = Field(default=RECORD_SCHEMA, alias="schema")
    run_id: str
    rank: int
    world_size: int
    attempt: int = Field(ge=1, description="the attempt that committed")
    samples: int
    samples_missing: int = Field(description="samples without a prediction, such as those with NaN pixels")
    missing_indices: tuple[int, ...] = Field(description="dataset indices of the first hundred missing samples")
    missing_reasons: dict[str, int] = Field(default_factory=dict, description="reason → number of samples")
    replaced_values: dict[str, int] = Field(
        default_factory=dict, description="column → missing values in it that were replaced, see --missing"
    )
    samples_replaced: int = Field(default=0, description="samples in which any value was replaced")
    undeclared_sentinels: dict[str, int] = Field(
        default_factory=dict,
        description="column → samples with what catalogues write for missing values, which --sentinel does not name",
    )
    column_sha256: dict[str, str] = Field(
        default_factory=dict, description="column of the Parquet file → SHA-256 of its values in row order"
    )
    wall_s: float
    load_s: float = Field(description="opening the model; 0 when it was loaded already")
    read_s: float = Field(description="wall seconds of reading; overlaps with compute")
    wait_s: float = Field(description="wall seconds that compute waited for data")
    compute_s: float
    write_s: float = Field(
        description="encoding the predictions as Parquet; their upload follows the record, which is in the file"
    )
    peak_rss_bytes: int
    bytes_read: int
    started_at: str
    ended_at: str
    host: str
    pid: int
    memory_mb: int | None = Field(default=None, description="configured memory of the Lambda function; None elsewhere")
    architecture: Literal["x86_64", "arm64"] | None = Field(default=None, description="of the Lambda function")
    region: str | None = Field(default=None, description="AWS region of the Lambda function")
    log_stream: str | None = Field(
        default=None, description="CloudWatch log stream: one for each execution environment of the Lambda function"
    )
    threads: int
    engine: str
    engine_version: str
    engine_reason: str
    torch_version: str | None
    precision: str
    deviation: dict[str, float] | None = Field(
        default=None, description="measured deviation of a reduced-precision engine from float32"
    )
    compiled: bool = Field(default=False, description="whether torch compiled the model, see --compile")
    piece_samples: int | None = Field(default=None, description="samples that a GPU computed at once; None on CPUs")
    model_digest: str
    cold_start: bool
    collectives: Collectives | None = Field(default=None, description="None: the run is without --collectives")
    read_checksums: tuple[RowsChecksum, ...] | None = Field(
        default=None, description="with --verify-reads: CRC-32s of the rows that were read, where the file has one"
    )

    def to_json_dict(self) -> dict[str, Any]:
        """The dictionary that `<rank>.json` and `combined_data.json` hold."""
        return self.model_dump(mode="json", by_alias=True)


class Completeness(_Record):
    """What was asked for and what is there."""

    ranks_planned: int
    ranks_present: int
    missing_ranks: tuple[int, ...]
    samples_planned: int
    samples_predicted: int
    samples_missing: int
    missing_reasons: dict[str, int] = Field(description="reason → number of samples")
    missing_sample_ranges: tuple[tuple[int, int], ...] = Field(
        description="dataset sample ranges [start, stop) of absent ranks"
    )

    @property
    def complete(self) -> bool:
        """Every sample has a prediction."""
        return self.samples_missing == 0 and self.ranks_present == self.ranks_planned


class Timing(_Record):
    """Wall times of the run, in seconds."""

    wall_s: float = Field(description="from the request to the summary, as the driver saw it")
    plan_s: float
    map_s: float = Field(description="first rank's start to last rank's end")
    aggregate_s: float
    rank_s_median: float
    rank_s_max: float
    launch_skew_s: float = Field(description="last rank's start − first rank's start")


class Throughput(_Record):
    """Rates of the whole run; by map time and by wall time."""

    samples_per_s_map: float
    samples_per_s_wall: float
    bits_per_s_map: float
    bits_per_s_wall: float


class Cost(_Record):
    """What the run was billed, or would be billed on AWS; `basis` tells which, and how it was computed."""

    total_usd: float
    items_usd: dict[str, float]
    basis: str
    prices_dated: str


class IdCounts(_Record):
    """What was found of the object IDs of the ranks that are there."""

    column: str
    duplicates: int = Field(description="rows whose ID an earlier row has")
    nulls: int = Field(description="rows without an ID")


class ScienceBin(_Record):
    """Metrics of the galaxies with `low` ≤ x ≤ `high`, where x is what `by` names."""

    by: str = Field(description="z_spec, r magnitude, or a colour such as g - r")
    low: float
    high: float
    metrics: dict[str, float | None]
    errors: dict[str, float | None] = Field(description="standard errors, by bootstrap")


class ClassesSummary(_Record):
    """Predicted classes, and how right they are where the true ones are known."""

    names: tuple[str, ...]
    counts: tuple[int, ...] = Field(description="predicted, by class")
    confidence: tuple[int, ...] = Field(
        description="samples in equal bins of the likeliest class's probability, 0 to 1"
    )
    labelled: int = Field(description="samples whose class is known")
    accuracy: float | None
    calibration_error: float | None = Field(description="expected calibration error (ECE), 15 bins")
    confusion: tuple[tuple[int, ...], ...] | None = Field(description="true class → predicted class → samples")
    calibration: tuple[tuple[int, float, float], ...] = Field(
        description="by bin of confidence: samples, mean confidence, accuracy"
    )


class AnomaliesSummary(_Record):
    """The samples whose embedding is farthest from the others'."""

    output: str = Field(description="the output that is taken for an embedding")
    samples: tuple[tuple[int, float], ...] = Field(
        description="sample index and Mahalanobis distance, the farthest first"
    )


class CatalogJoin(_Record):
    """How the rows of the data and of a catalogue found each other."""

    uri: str
    identity: str = Field(description="of the catalogue's content")
    joined_by: str | None = Field(description="the ID; None: by row number")
    rows: int = Field(description="rows of the catalogue")
    columns: tuple[str, ...] = Field(description="columns that the run takes from it")
    samples_matched: int
    samples_unmatched: int = Field(description="samples that the catalogue has no row for: its columns are empty there")
    first_unmatched: tuple[str, ...] = Field(default=(), description="IDs of the first ten of them")
    duplicates: int = Field(default=0, description="rows of the catalogue whose ID an earlier row has: not used")
    unused_rows: int = Field(default=0, description="rows of the catalogue that no sample has the ID of")


class CollectivesSummary(_Record):
    """How the collectives of this start's ranks went; their results are in the rank records."""

    ranks: int
    complete: int
    channel: str
    launch_skew_s: float | None
    science: dict[str, float | None] | None
    times: dict[str, TimeOverRanks] | None
    errors: dict[int, str] = Field(description="rank → why it went on alone, first hundred")


class Summary(_Record):
    """summary.json."""

    schema_: Literal["skyfan.summary/1"] = Field(default=SUMMARY_SCHEMA, alias="schema")
    run_id: str
    state: Literal["complete", "incomplete", "failed"]
    dataset: str
    model: str
    model_digest: str
    output: str
    target: str
    options: dict[str, Any]
    world_size: int
    workers: int | None
    partition_size_bytes: int | None
    samples: int
    data_bytes: int
    completeness: Completeness
    timing: Timing
    throughput: Throughput
    cost: Cost | None
    science: dict[str, float | None] | None
    science_errors: dict[str, float | None] = Field(
        default_factory=dict, description="standard errors of the metrics, by Poisson bootstrap"
    )
    science_bins: tuple[ScienceBin, ...] = Field(
        default=(), description="metrics in bins with equally many galaxies, where magnitudes can be read by these too"
    )
    pit_counts: tuple[int, ...] | None = Field(
        default=None, description="galaxies in equal bins of PIT from 0 to 1; None without p(z) or known redshifts"
    )
    caveats: tuple[str, ...] = Field(
        default=(), description="what the dataset's files say of themselves, such as that their pixels are simulated"
    )
    calibration: dict[str, float | int | str] | None = Field(
        default=None, description="what intervals were calibrated on; None without --calibrate"
    )
    classes: ClassesSummary | None = Field(default=None, description="None: no classes were named")
    anomalies: AnomaliesSummary | None = Field(
        default=None, description="None: the model gives redshifts or classes, or no embedding"
    )
    collectives: CollectivesSummary | None = Field(default=None, description="None: started without --collectives")
    ids: IdCounts | None = Field(default=None, description="None: no column of IDs was named")
    catalog: CatalogJoin | None = Field(default=None, description="None: without --catalog")
    left_out: tuple[str, ...] = Field(default=(), description="what the first file holds that is not read")
    trained_samples: int = Field(
        default=0,
        description="samples of known redshift that the packaged model was trained on, as the dataset marks them; "
        "without marks, with the redshift of one of those, where this is more than a tenth of all",
    )
    science_unseen: dict[str, float | None] | None = Field(
        default=None, description="metrics of the other samples, of up to a million; None: trained on none, or on all"
    )
    science_unseen_errors: dict[str, float | None] = Field(default_factory=dict, description="their standard errors")
    replaced_values: dict[str, int] = Field(
        default_factory=dict, description="column → missing values in it that were replaced, see --missing"
    )
    samples_replaced: int = Field(default=0, description="samples in which any value was replaced")
    undeclared_sentinels: dict[str, int] = Field(
        default_factory=dict,
        description="column → samples with what catalogues write for missing values, which --sentinel does not name",
    )
    attempts: int = Field(description="attempts of all ranks together")
    reused_ranks: int = Field(description="ranks that an earlier start of this run had already committed")
    failures: dict[int, str] = Field(default_factory=dict, description="rank → last error, first hundred")
    verified_tensors: int | None = Field(
        default=None, description="tensors whose every row was read and is what was saved; None without --verify-reads"
    )
    environment: dict[str, Any]
    created_at: str

    @property
    def ran_on_aws(self) -> bool:
        """Whether its cost is that of this run, and not what AWS would bill for one like it."""
        return self.target in ("aws", "localstack")

    def to_json_dict(self) -> dict[str, Any]:
        """The dictionary that `summary.json` holds."""
        return self.model_dump(mode="json", by_alias=True)
