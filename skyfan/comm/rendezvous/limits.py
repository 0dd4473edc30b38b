"""What one rendezvous server allows and nobody changes; `skyfan.settings.RendezvousLimits` has what can be set."""

CAPACITY_BYTES = 16 * 2**20  # default of relayed bytes that wait for one rank
MAX_CAPACITY_BYTES = 64 * 2**20
MAX_NAME_LENGTH = 200
MIN_TOKEN_LENGTH = 16
MAX_CANDIDATES = 8
MAX_ENDED_GROUPS = 1024  # remembered, so that a late rank is told that its group is over
ENDED_S = 600.0
