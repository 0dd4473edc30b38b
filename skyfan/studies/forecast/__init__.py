"""Time and cost of a run before it runs: a simulated Distributed Map, calibrated by measured runs."""

from skyfan.studies.forecast.calibration import Calibration, Spread, load_calibration
from skyfan.studies.forecast.figure import plot_pareto
from skyfan.studies.forecast.measured import calibrate
from skyfan.studies.forecast.predict import (
    Forecast,
    Recommendation,
    alternatives,
    even_ranks,
    forecast,
    pareto,
    recommend,
)
from skyfan.studies.forecast.simulate import Job, Limits, Outcome, simulate

__all__ = [
    "Calibration",
    "Forecast",
    "Job",
    "Limits",
    "Outcome",
    "Recommendation",
    "Spread",
    "alternatives",
    "calibrate",
    "even_ranks",
    "forecast",
    "load_calibration",
    "pareto",
    "plot_pareto",
    "recommend",
    "simulate",
]
