"""A server as a process: what it writes to standard output, and when it ends."""

import json
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# More than a pipe holds, written at the end so that it comes after the announcement.
TALKATIVE = """
import os, sys
from skyfan.serving import partitioner, rendezvous
{"partitioner": partitioner, "rendezvous": rendezvous}[sys.argv[1]].main(
    ["--address", "127.0.0.1:0", "--announce", *sys.argv[2:]]
)
os.write(1, b"x" * 2**20)
"""


@pytest.mark.parametrize("arguments", [["partitioner"], ["rendezvous", "--observer-port", "0"]])
def test_a_library_that_says_much_does_not_block_a_service_that_nobody_reads(arguments):
    with subprocess.Popen(
        [sys.executable, "-c", TALKATIVE, *arguments], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert json.loads(process.stdout.readline())["port"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert process.stdout.read() == b""
        finally:
            process.kill()


# A thread that nobody can stop: a conversion, or a read from a file system that does not answer.
BUSY = """
import asyncio, time
from skyfan.rpc.main import run_server
work = lambda server: asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
run_server("executor", "skyfan.v1.Executor", work, ["--address", "127.0.0.1:0", "--announce"])
"""


def test_a_server_whose_parent_is_gone_ends_while_one_of_its_threads_works_on():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL) as process:
        try:
            assert json.loads(process.stdout.readline())["port"]
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()
