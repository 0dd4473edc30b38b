"""The report page of a run, and the figures on it."""

from skyfan.report.galaxies import Observed, RedshiftSample, known_galaxies, observe
from skyfan.report.page import render_run

__all__ = ["Observed", "RedshiftSample", "known_galaxies", "observe", "render_run"]
