"""Ranks of a planned run side by side, and what they leave."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skyfan.errors import Interrupted
from skyfan.records import RankRecord
from skyfan.runs.commit import RunLedger
from skyfan.stages import aggregate as aggregator
from skyfan.stages import infer as core
from skyfan.stages.messages import AggregateRequest
from skyfan.stages.model_cache import ModelCache

RANKS = 3
TOKEN = "the services' token, which nobody may read anywhere"


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
    """What ranks can know of the summary's metrics: a median is not a sum."""
    of_sums = {name: value for name, value in science.items() if name != "sigma68"}  # percentiles are no sums, either
    return {name: pytest.approx(value, rel=1e-9) for name, value in of_sums.items()} | {"nmad": None}


def on_disk(request):
    return RankRecord.model_validate_json(Path(RunLedger(request.job.output).record_uri(request.item.rank)).read_text())
