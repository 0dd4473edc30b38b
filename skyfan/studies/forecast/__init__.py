"""Time and cost of a run before it runs: a simulated Distributed Map and other workers, calibrated by measured runs."""

from skyfan.studies.forecast.computes import ComputeForecast, compare_computes
from skyfan.studies.forecast.forecast_calibration import Calibration, Spread, load_calibration
from skyfan.studies.forecast.map_simulation import Limits, Outcome, Workload, simulate
from skyfan.studies.forecast.measured_calibration import calibrate
from skyfan.studies.forecast.predict import (
    Forecast,
    Recommendation,
    alternatives,
    even_ranks,
    forecast,
    pareto,
    recommend,
)

__all__ = [
    "Calibration",
    "ComputeForecast",
    "Forecast",
    "Limits",
    "Outcome",
    "Recommendation",
    "Spread",
    "Workload",
    "alternatives",
    "calibrate",
    "compare_computes",
    "even_ranks",
    "forecast",
    "load_calibration",
    "pareto",
    "recommend",
    "simulate",
]
