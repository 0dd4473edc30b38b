"""What a map costs while it runs, from how many ranks were at work how long."""

from dataclasses import dataclass

from skyfan.backends.stepfunctions.state_machine import Machine
from skyfan.cost import Invocation, Prices, Usage, bill, pipeline_transitions


@dataclass
class CostMeter:
    """Adds up rank seconds between looks at the map; the bill of record is the summary's."""

    machine: Machine
    prices: Prices
    region: str
    _busy_s: float = 0.0
    _looked_at_s: float | None = None
    _running: int = 0

    def cost_usd(self, running: int, ended: int, now_s: float) -> float:
        """Cost at `now_s` (any steady clock), with `running` ranks at work and `ended` ones done."""
        if self._looked_at_s is not None:
            self._busy_s += (now_s - self._looked_at_s) * (self._running + running) / 2
        self._looked_at_s, self._running = now_s, running
        ranks = max(1, running + ended)
        usage = Usage(
            invocations=[Invocation(self._busy_s / ranks, count=ranks)],
            memory_mb=self.machine.memory_mb,
            architecture=self.machine.architecture,
            transitions=pipeline_transitions(ranks),
        )
        return bill(usage, self.prices, self.region).total_usd
