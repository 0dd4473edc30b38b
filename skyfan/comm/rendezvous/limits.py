"""What one rendezvous server allows; every value can be set in the environment.

| variable                             | default   | limits                                              |
|--------------------------------------|-----------|-----------------------------------------------------|
| `SKYFAN_RENDEZVOUS_GROUPS`           | 64        | groups at one time                                  |
| `SKYFAN_RENDEZVOUS_WORLD_SIZE`       | 1024      | ranks of one group                                  |
| `SKYFAN_RENDEZVOUS_MEMBERS`          | 4096      | ranks of all groups together                        |
| `SKYFAN_RENDEZVOUS_QUEUED_BYTES`     | 268435456 | relayed bytes in flight, all groups together        |
| `SKYFAN_RENDEZVOUS_LIFETIME_S`       | 7200      | age at which a group expires                        |
| `SKYFAN_RENDEZVOUS_JOIN_DEADLINE_S`  | 15 min    | longest wait for a group to be full                 |
"""

import os
from dataclasses import dataclass, fields

from skyfan.aws_limits import LAMBDA_TIMEOUT_S
from skyfan.errors import BadInput


@dataclass(frozen=True)
class Limits:
    """See the table of this module."""

    groups: int = 64
    world_size: int = 1024
    members: int = 4096
    queued_bytes: int = 256 * 2**20
    lifetime_s: int = 7200
    join_deadline_s: int = LAMBDA_TIMEOUT_S

    @classmethod
    def from_environment(cls) -> "Limits":
        """The defaults, changed by the environment."""
        found: dict[str, int] = {}
        for field in fields(cls):
            variable = f"SKYFAN_RENDEZVOUS_{field.name.upper()}"
            text = os.environ.get(variable)
            if text is None:
                continue
            if not text.isdecimal() or int(text) == 0:
                raise BadInput(f"{variable}={text!r} must be a whole number greater than zero.")
            found[field.name] = int(text)
        return cls(**found)


CAPACITY_BYTES = 16 * 2**20  # default of relayed bytes that wait for one rank
MAX_CAPACITY_BYTES = 64 * 2**20
MAX_NAME_LENGTH = 200
MIN_TOKEN_LENGTH = 16
MAX_CANDIDATES = 8
MAX_ENDED_GROUPS = 1024  # remembered, so that a late rank is told that its group is over
ENDED_S = 600.0
