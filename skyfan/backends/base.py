"""What a place to run is to the driver."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from skyfan.events import Listener
from skyfan.records import RankRecord, Summary
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.stages.infer_messages import InferRequest, PreparedModel, PrepareRequest
from skyfan.stages.plan_messages import PlanReply, PlanRequest


class Target(ABC):
    """Three services behind four calls. Entering starts what must be started, leaving takes it away."""

    name: str
    concurrency: int
    more_at_once: str
    """What the user does to have `{ranks}` ranks at once, as a part of a sentence."""
    rendezvous: str | None = None
    """HOST:PORT where ranks meet; None: in the run's folder."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def at_once(self) -> int:
        """How many ranks run side by side now, so that they can wait for each other."""
        return self.concurrency

    @abstractmethod
    async def prepare(self, request: PrepareRequest) -> PreparedModel:
        """Reads the model and tries it on the dataset's shapes."""

    @abstractmethod
    async def plan(self, request: PlanRequest) -> PlanReply:
        """Plans the run and claims its output place."""

    @abstractmethod
    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """Computes and commits one rank, reporting progress."""

    @abstractmethod
    async def aggregate(self, request: AggregateRequest) -> Summary:
        """Merges what is committed."""
