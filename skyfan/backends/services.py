"""The five calls of the services, wherever they are."""

from abc import ABC, abstractmethod
from typing import Self

from skyfan.events import Listener
from skyfan.records import RankRecord, Summary
from skyfan.stages.messages import (
    AggregateRequest,
    ConvertRequest,
    InferRequest,
    ModelFile,
    PlanReply,
    PlanRequest,
    PreparedModel,
    PrepareRequest,
)


class Services(ABC):
    """Partitioner, executors and aggregator. Entering starts what must be started, leaving takes it away."""

    name: str
    """The backend's name, as the summary reports it."""
    concurrency: int
    scale_up_hint: str
    """How to have `{ranks}` ranks at once, as a part of a sentence."""
    rendezvous: str | None = None
    """HOST:PORT of the service through which ranks talk to each other; None: through the run's folder."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def max_concurrency(self) -> int:
        """How many ranks run side by side now, so that they can wait for each other."""
        return self.concurrency

    def expect(self, _ranks: int) -> None:
        """So many ranks will be asked for from now on: no more executors than these are needed."""
        return

    @abstractmethod
    async def prepare(self, request: PrepareRequest, listener: Listener) -> PreparedModel:
        """Reads the model and tries it on the dataset's shapes; reports files where it can."""

    @abstractmethod
    async def plan(self, request: PlanRequest, listener: Listener) -> PlanReply:
        """Plans the run and claims its output; reports files where it can."""

    @abstractmethod
    async def convert(self, request: ConvertRequest) -> ModelFile:
        """Leaves the model where ranks load it."""

    async def warm_up(self, _request: ConvertRequest, _ranks: int) -> None:
        """Lets the executors that the ranks will use load the model, so that no rank's time holds it."""
        return

    @abstractmethod
    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """Computes and commits one rank, reporting progress."""

    @abstractmethod
    async def aggregate(self, request: AggregateRequest) -> Summary:
        """Merges what is committed."""
