"""Landlock: Linux lets a thread give up rights for itself and for all that it starts, and never take them back.

The system calls have no wrapper in libc, so they are made by number (the same on all architectures). What is taken
away: writing, creating and removing files outside named folders, starting programs anywhere, from version 4 of the
interface on TCP, from version 6 on signals and abstract sockets of other processes. Reading stays.
Source: https://docs.kernel.org/userspace-api/landlock.html.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_QUERY_VERSION, _PATH_BENEATH = 1, 1
_SET_NO_NEW_PRIVS = 38
_EXECUTE, _WRITE_FILE, _REFER, _TRUNCATE = 1 << 0, 1 << 1, 1 << 13, 1 << 14
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_TCP_BIND_AND_CONNECT, _SCOPE_SOCKETS_AND_SIGNALS = 0b11, 0b11
REFER_FROM, TRUNCATE_FROM, NETWORK_FROM, SCOPES_FROM = 2, 3, 4, 6
# Not files that hold anything: where libraries write without meaning to write.
HARMLESS = ("/dev/null", "/dev/zero", "/dev/full")


def landlock_version() -> int:
    """The version of the kernel's interface; 0 where there is none, or it is switched off."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _QUERY_VERSION))


def restrict_process(writable: Sequence[Path | str] = ()) -> bool:
    """Takes from the calling thread, and from all threads and processes that it starts, what they do not need.

    Afterwards they write below `writable` only (folders or files that exist), start no programs and make no TCP
    connections. Call it before a process starts its threads: those that run already are not
    bound. False where the kernel has no Landlock, and nothing is changed; `OSError` for a path that does not exist.
    """
    version = landlock_version()
    if not version:
        return False
    on_files = _WRITE_FILE | (_TRUNCATE if version >= TRUNCATE_FROM else 0)
    writing = on_files | _REMOVE_AND_MAKE | (_REFER if version >= REFER_FROM else 0)
    handled = [
        writing | _EXECUTE,
        _TCP_BIND_AND_CONNECT if version >= NETWORK_FROM else 0,
        _SCOPE_SOCKETS_AND_SIGNALS if version >= SCOPES_FROM else 0,
    ]
    fields = handled[: 1 + (version >= NETWORK_FROM) + (version >= SCOPES_FROM)]
    attribute = (ctypes.c_uint64 * len(fields))(*fields)
    ruleset = _checked(_call(_CREATE_RULESET, ctypes.byref(attribute), ctypes.sizeof(attribute), 0))
    try:
        for path in (*writable, *filter(os.path.exists, HARMLESS)):
            _allow(ruleset, Path(path), writing if Path(path).is_dir() else on_files)
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _allow(ruleset: int, path: Path, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(access, descriptor)
        _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    words = [ctypes.c_size_t(a) if isinstance(a, int) else a for a in arguments]
    return int(syscall(ctypes.c_long(number), *words))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
