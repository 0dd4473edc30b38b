"""Where the store channel keeps its objects, below `<uri>/comm/<run>/<group>/`.

| object                     | written by | meaning                                                  |
|----------------------------|------------|----------------------------------------------------------|
| `member/<rank>-of-<n>`     | its rank   | has joined (create-only: a second one is refused)        |
| `status/<rank>-alive`      | its rank   | a counter that changes while the rank lives              |
| `status/<rank>-gone`       | its rank   | has left; if early, why and because of which rank        |
| `message/<src>-<dst>/<k>`  | src        | the k-th message of this pair; dst deletes it later      |
"""

import contextlib
import shutil

from skyfan import store
from skyfan.comm.errors import GroupRefused


class StoreLayout:
    """The keys of one group as one of its ranks uses them.

    Raises:
        GroupRefused: `run` or `group` cannot be part of a key.
    """

    def __init__(self, uri: str, run: str, group: str, rank: int, world_size: int) -> None:
        self.prefix = store.join(uri, "comm", _segment(run), _segment(group))
        self.member_uri = store.join(self.prefix, "member", f"{rank}-of-{world_size}")

    def status_uri(self, rank: int, kind: str) -> str:
        """Of a rank's state; `kind` is "alive" or "gone"."""
        return store.join(self.prefix, "status", f"{rank}-{kind}")

    def message_uri(self, src: int, dst: int, number: int) -> str:
        """Of the message with this number, counted from 0 for each pair of ranks."""
        return store.join(self.prefix, "message", f"{src}-{dst}", f"{number:08d}")


def _segment(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise GroupRefused(f"run and group names of the store channel must not be empty or hold a slash: {name!r}.")
    return name


def delete_folders(prefix: str) -> None:
    """On a local disk, delete the group's folder, and those above it that are empty."""
    folder = store.local_path(prefix)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another group of this run, or another run, is there
            folder.parent.rmdir()
            folder.parent.parent.rmdir()
