"""The second line of defence: processes and threads that may not write, start programs or reach the network.

What came with data or a model is checked before it is used, see `skyfan.models.programs`. Should that check have a
hole, what runs here finds nothing to harm: `run_in_child` gives it a process of its own with a folder of its own,
limits and a deadline, `ConfinedThread` a thread of a rank that may write nothing. `sandbox_status` tells what of this
the machine can do.
"""

from skyfan.sandbox.child import ChildDied, Limits, run_in_child
from skyfan.sandbox.landlock import restrict_process
from skyfan.sandbox.status import SandboxStatus, sandbox_status
from skyfan.sandbox.thread import ConfinedThread

__all__ = [
    "ChildDied",
    "ConfinedThread",
    "Limits",
    "SandboxStatus",
    "restrict_process",
    "run_in_child",
    "sandbox_status",
]
