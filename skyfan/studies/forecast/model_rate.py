"""How fast a model is on this machine, for a forecast of that very model."""

from skyfan.engines.threads import available_threads
from skyfan.job import Job
from skyfan.stages.messages import PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.prepare import prepare
from skyfan.studies.forecast.forecast_calibration import MeasuredRate


def measure_rate(job: Job) -> MeasuredRate:
    """Times the job's model on blank samples of its dataset's shapes; nothing is written.

    Raises:
        ModelError: the model cannot be run.
        DatasetError: the dataset does not fit the model.
    """
    threads = available_threads()
    found = prepare(PrepareRequest(job=job, measure_rate=True), ModelCache(threads=threads))
    assert found.samples_per_s is not None
    return MeasuredRate(", ".join(job.models), found.samples_per_s, threads)
