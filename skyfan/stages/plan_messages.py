"""What the partitioner is asked and what it answers, the same over gRPC and on Lambda."""

from pydantic import BaseModel, ConfigDict, Field

from skyfan.planning import RunOptions


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DatasetCut(_Request):
    """Which data, and how they are cut and given to ranks.

    `partition_size_bytes` None: each file is one partition. `world_size` None: one rank a partition.
    `file_limit`: at most this many partitions (what the reference system calls files).
    """

    dataset: str
    partition_size_bytes: int | None = Field(default=25 * 2**20, ge=1)
    world_size: int | None = Field(default=None, ge=1)
    file_limit: int | None = Field(default=None, ge=1)


class PlanRequest(DatasetCut):
    """Plan a run and claim its output place.

    With both `rank_limit_s` and `samples_per_s`, a plan whose largest rank would not end in time is refused.
    """

    output: str
    model: str
    model_digest: str
    options: RunOptions = RunOptions()
    resume: bool = True
    rank_limit_s: float | None = Field(default=None, gt=0)
    samples_per_s: float | None = Field(default=None, gt=0)


class PlanReply(_Request):
    """The plan in numbers; all of it is in `plan_uri`."""

    run_id: str
    plan_uri: str
    world_size: int
    ranks: int
    samples: int
    data_bytes: int
    partitions: int
    committed_ranks: tuple[int, ...]
