"""One rank as a process that fails on purpose: `python -m tests.comm.faulty_rank` with JSON on standard input.

It repeats one operation until something goes wrong, and prints what. The victim stops in the middle: `kill`
ends it without a word, `stop` freezes it, so that its connections stay open but nothing answers any more. With
`kill before heartbeat` it has only joined, through a store.
"""

import json
import os
import signal
import sys
import time

import numpy as np

from skyfan import comm, store
from skyfan.comm.store_layout import StoreLayout
from skyfan.errors import SkyfanError

OPERATIONS = {
    "send": lambda ranks, array: (
        ranks.send(array, (ranks.rank + 1) % ranks.world_size) or ranks.recv((ranks.rank - 1) % ranks.world_size)
    ),
    "barrier": lambda ranks, array: ranks.barrier(),
    "bcast": lambda ranks, array: ranks.bcast(array, root=1),
    "gather": lambda ranks, array: ranks.gather(array, root=1),
    "allgather": lambda ranks, array: ranks.allgather(array),
    "scatter": lambda ranks, array: ranks.scatter([array] * ranks.world_size, root=1),
    "reduce": lambda ranks, array: ranks.reduce(array, root=1),
    "allreduce": lambda ranks, array: ranks.allreduce(array),
    "scan": lambda ranks, array: ranks.scan(array),
}


def main() -> None:
    work = json.loads(sys.stdin.readline())
    say({"event": "started"})
    if work["rank"] == work["victim"] and work["fault"] == "kill before heartbeat":
        options = work["options"]
        layout = StoreLayout(options["store"], options["run"], "main", work["rank"], work["world_size"])
        store.put_new(layout.member_uri, b"joined")
        fail("kill")
    try:
        with comm.connect(work["rank"], work["world_size"], **work["options"]) as ranks:
            say({"event": "connected", "paths": sorted(set(ranks.paths.values()))})
            repeat(ranks, work)
    except SkyfanError as error:
        say(
            {
                "event": "failed",
                "kind": type(error).__name__,
                "rank": getattr(error, "rank", None),
                "message": str(error),
                "after_s": time.time() - work.get("fault_at", 0) if work.get("fault_at") else None,
            }
        )


def repeat(ranks, work) -> None:
    array = np.ones(work["elements"])
    operation = OPERATIONS[work["operation"]]
    for number in range(work["repeat"]):
        if ranks.rank == work["victim"] and number == work["fails_at"]:
            fail(work["fault"])
        operation(ranks, array)
        if number == 0:
            say({"event": "running"})
        if work.get("pause_s"):
            time.sleep(work["pause_s"])


def fail(fault: str) -> None:
    say({"event": "faulting"})
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "exit":
        os._exit(3)


def say(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
