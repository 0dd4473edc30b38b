"""Pages and figures of runs. Needs matplotlib (extra `report`); no torch."""

from skyfan.report.page import render_run

__all__ = ["render_run"]
