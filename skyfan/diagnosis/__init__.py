"""What of this machine, its store and its account a run needs, looked at before the run: `skyfan doctor`."""

from skyfan.diagnosis.findings import FAIL, OK, WARN, Finding
from skyfan.diagnosis.machine import examine_machine
from skyfan.diagnosis.storage import examine_storage

__all__ = ["FAIL", "OK", "WARN", "Finding", "examine_machine", "examine_storage"]
