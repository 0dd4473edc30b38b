"""A process without a network: a name space of its own, in which no interface is up."""

import ctypes
import sys

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000


def leave_network() -> bool:
    """Moves this process to a network of its own with nothing in it; False where the kernel does not allow that.

    An ordinary user needs a user name space for it, which some systems forbid. Call it while there is one thread.
    """
    if not sys.platform.startswith("linux"):
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    return any(int(unshare(flags)) == 0 for flags in (_NEW_NETWORK, _NEW_USER | _NEW_NETWORK))
