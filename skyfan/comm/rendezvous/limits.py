"""Fixed limits of a rendezvous server; those that can be set are `skyfan.settings.RendezvousLimits`."""

CAPACITY_BYTES = 16 * 2**20  # default of relayed bytes that wait for one rank
MAX_CAPACITY_BYTES = 64 * 2**20
MAX_NAME_LENGTH = 200
MIN_TOKEN_LENGTH, MAX_TOKEN_LENGTH = 16, 1024
MAX_REASON_LENGTH = 1000  # of why a rank stops early, which is sent to all others
MAX_CANDIDATES = 8
MAX_ENDED_GROUPS = 1024  # names kept, so that a late rank is told that its group is over
ENDED_S = 600.0
