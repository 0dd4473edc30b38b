"""What a check found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["OK", "warn", "fail"]
OK: State = "OK"
WARN: State = "warn"
FAIL: State = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `skyfan doctor`. `fail`: a run would fail; `warn`: it would be slower or less safe.

    `remedy` is what to do, empty where nothing is to be done.
    """

    subject: str
    state: State
    found: str
    remedy: str = ""
