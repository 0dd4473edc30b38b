"""S3 and its kin when they fail: asked again with limits, told apart, never believed too much."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from skyfan import comm, store
from skyfan.errors import LocationError, Transient

pytestmark = pytest.mark.slow

BUCKET = "skyfan-test"
ROOT = f"s3://{BUCKET}/run"
CONTENT = bytes(range(256)) * 64

CALLS = {
    "read": lambda: store.read(f"{ROOT}/x") == CONTENT,
    "head": lambda: store.head(f"{ROOT}/x").size_bytes == len(CONTENT),
    "exists": lambda: store.exists(f"{ROOT}/x"),
    "read_range": lambda: store.read_range(f"{ROOT}/x", 100, 900) == CONTENT[100:900],
    "read_tail": lambda: store.read_tail(f"{ROOT}/x", 50)[1] == CONTENT[-50:],
    "list": lambda: [info.uri for info in store.list(ROOT)] == [f"{ROOT}/x"],
    "put": lambda: store.put(f"{ROOT}/y", b"1").uri and store.read(f"{ROOT}/y") == b"1",
    "put_new": lambda: store.put_new(f"{ROOT}/y", b"1").uri and store.read(f"{ROOT}/y") == b"1",
    "delete": lambda: store.delete(f"{ROOT}/x") is None and not store.exists(f"{ROOT}/x"),
}


@pytest.fixture(autouse=True)
def stored(proxy):
    store.put(f"{ROOT}/x", CONTENT)


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
@pytest.mark.parametrize("call", CALLS)
def test_a_passing_fault_is_not_seen(proxy, call, fault):
    proxy.first(2, fault)
    assert CALLS[call]()


@pytest.mark.parametrize("call", ["read", "read_range", "read_tail"])
def test_half_an_answer_is_not_taken_for_a_whole_one(proxy, call):
    proxy.first(2, "short", "GET")
    assert CALLS[call]()


def test_a_listing_that_breaks_between_pages_goes_on_where_it_was(proxy):
    for index in range(1_100):  # behind the server's back: 1,100 requests would take seconds
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, f"many/{index:05d}.json", b"")
    pages = iter(range(1, 100))
    proxy.fault = lambda *_: "short" if next(pages) in (2, 3) else ""
    listed = [info.uri for info in store.list(f"s3://{BUCKET}/many")]
    assert listed == [f"s3://{BUCKET}/many/{index:05d}.json" for index in range(1_100)]


def test_a_store_that_stays_busy_ends_the_call(proxy, aws_environment):
    aws_environment.setenv("AWS_PROFILE", "another-client")  # one whose endpoint has not answered yet: it waits less
    proxy.fault = lambda *_: "503"
    with pytest.raises(Transient, match=f"{ROOT}/x"):
        store.read(f"{ROOT}/x")


def test_a_write_whose_answer_was_lost_is_the_writers_own(proxy):
    proxy.first(1, "lost", "PUT")
    assert store.put_new(f"{ROOT}/mine", b"mine").size_bytes == 4
    assert store.read(f"{ROOT}/mine") == b"mine"


def test_a_write_that_failed_while_another_came_first_is_not(proxy):
    proxy.first(1, "reset", "PUT")
    before = proxy.fault

    def another_writer(method, path, headers):
        if method == "PUT":
            proxy.fault = before
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, "run/theirs", b"them")
        return before(method, path, headers)

    proxy.fault = another_writer
    with pytest.raises(store.AlreadyExists):
        store.put_new(f"{ROOT}/theirs", b"mine")
    assert store.read(f"{ROOT}/theirs") == b"them"


@pytest.mark.parametrize("fault", ["409", "412"])
def test_a_conflict_is_not_an_object(proxy, fault):
    proxy.first(2, fault, "PUT")
    store.put_new(f"{ROOT}/new", b"1")
    assert store.read(f"{ROOT}/new") == b"1"
    proxy.first(1, fault, "PUT")
    with pytest.raises(store.AlreadyExists):
        store.put_new(f"{ROOT}/new", b"2")
    assert store.read(f"{ROOT}/new") == b"1"


@pytest.mark.parametrize("fault", ["409", "412"])
def test_a_conflict_without_end_has_an_end(proxy, fault):
    proxy.fault = lambda method, *_: fault if method == "PUT" else ""
    with pytest.raises(Transient, match=f"{ROOT}/new could not be written after 7 attempts"):
        store.put_new(f"{ROOT}/new", b"1")


def test_a_store_with_conditions_passes_once_and_keeps_nothing_of_the_trial(proxy):
    store.require_create_only(ROOT)
    assert [info.uri for info in store.list(ROOT)] == [f"{ROOT}/x"]
    before = proxy.requests
    store.require_create_only(f"s3://{BUCKET}/another")
    assert proxy.requests == before


@pytest.mark.parametrize(
    ("fault", "words"),
    [("unconditional", "ignores conditions"), ("501", "501 NotImplemented"), ("400", "400"), ("304", "304")],
)
def test_a_store_without_conditions_is_refused_and_keeps_nothing_of_the_trial(proxy, fault, words):
    proxy.fault = lambda method, path, headers: fault if "if-none-match" in headers else ""
    with pytest.raises(LocationError, match=rf"^{ROOT}.*{words}.*choose an --output") as caught:
        store.require_create_only(ROOT)
    assert "\n" not in str(caught.value)
    assert [info.uri for info in store.list(ROOT)] == [f"{ROOT}/x"]


def test_a_missing_object_is_missing_where_only_listing_is_allowed(proxy):
    proxy.fault = lambda method, *_: "403" if method == "HEAD" else ""
    assert not store.exists(f"{ROOT}/w")
    assert not store.exists(f"{ROOT}/xx")
    assert not store.exists(f"{ROOT}/no/such/folder")
    with pytest.raises(LocationError, match="access denied"):
        store.exists(f"{ROOT}/x")
    proxy.fault = lambda *_: "403"
    with pytest.raises(LocationError, match="access denied"):
        store.exists(f"{ROOT}/w")


def test_the_region_of_a_bucket_is_found(proxy):
    proxy.fault = lambda method, path, headers: (
        "" if "/eu-central-1/" in headers.get("authorization", "") else "elsewhere"
    )
    assert store.read(f"{ROOT}/x") == CONTENT
    store.put_new(f"{ROOT}/y", b"1")
    assert [info.uri for info in store.list(ROOT)] == [f"{ROOT}/x", f"{ROOT}/y"]


def test_ctrl_c_ends_a_call_that_hangs(proxy):
    hanging = threading.Event()

    def hang(method, *_):
        if method == "HEAD":
            return ""
        hanging.set()
        return "hang"

    proxy.fault = hang
    # A store that has answered once is waited for 20 s, and asked again.
    program = f"from skyfan import store; store.head('{ROOT}/x'); store.read('{ROOT}/x')"
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        assert hanging.wait(60)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=15)
    finally:
        child.kill()
        child.wait()
    assert "KeyboardInterrupt" in said
    assert "panicked" not in said


def test_calls_of_other_threads_can_be_abandoned(proxy):
    hanging, ended = threading.Event(), []

    def hang(*_):
        hanging.set()
        return "hang"

    store.head(f"{ROOT}/x")  # a store that has answered once is waited for 20 s, and asked again

    def read():
        try:
            store.read(f"{ROOT}/x")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ended
            ended.append(type(error).__name__)

    proxy.fault = hang
    thread = threading.Thread(target=read)
    thread.start()
    assert hanging.wait(60)
    store.abandon_calls()
    thread.join(15)
    assert ended == ["CancelledError"]


def test_a_rank_leaves_its_group_in_seconds_where_the_store_hangs(proxy):
    ranks = comm.connect(0, 1, run="hanging", channel="store", store=ROOT)
    ranks.barrier()
    proxy.fault = lambda *_: "hang"
    began = time.monotonic()
    with pytest.raises(comm.CommError, match="could not be told"):
        ranks.close()
    assert time.monotonic() - began < 30  # it gives up after 5 s, where the store's own time-out is a minute


def test_a_rank_whose_heartbeat_was_abandoned_does_not_go_on_without(proxy):
    """Another run of this process was interrupted, and nobody waits for requests any more."""
    hanging = threading.Event()

    def hang(_method, path, _headers):
        if not path.endswith("0-alive"):
            return ""
        hanging.set()
        return "hang"

    with comm.connect(0, 1, run="abandoned", channel="store", store=ROOT, heartbeat_timeout_s=2.0) as ranks:
        proxy.fault = hang
        assert hanging.wait(60)
        store.abandon_calls()
        deadline = time.monotonic() + 60
        with pytest.raises(comm.CommError, match="heartbeats ended: CancelledError"):
            all(ranks.barrier() is None for _ in iter(lambda: time.monotonic() < deadline, False))
