"""What every kind of store does alike: files, S3 and memory."""

import pytest

from skyfan import store
from skyfan.errors import LocationError
from tests.store.conftest import race_to_put_new

pytestmark = pytest.mark.slow

MIB = 2**20


def test_put_and_read_back(root):
    uri = store.join(root, "a", "b c#%.bin")
    info = store.put(uri, b"first")
    assert store.put(uri, b"second!").etag != info.etag
    assert store.read(uri) == b"second!"
    assert store.head(uri).size_bytes == 7
    assert store.head(uri) == next(store.list(root))
    assert store.exists(uri)


def test_etag_is_stable_and_changes_with_the_content(root):
    uri = store.join(root, "x")
    store.put(uri, b"1")
    first = store.head(uri).etag
    assert store.head(uri).etag == first
    store.put(uri, b"2")
    assert store.head(uri).etag != first


def test_create_only_put_has_one_winner(root):
    uri = store.join(root, "rank-0.parquet")
    assert race_to_put_new(uri) == [store.read(uri)]


def test_missing_object(root):
    uri = store.join(root, "nothing.pt")
    assert not store.exists(uri)
    for call in (store.head, store.read, lambda u: store.read_range(u, 0, 1), lambda u: store.read_tail(u, 9)):
        with pytest.raises(LocationError) as caught:
            call(uri)
        assert uri in str(caught.value)
        assert "\n" not in str(caught.value)


def test_delete_is_idempotent(root):
    uri = store.join(root, "x")
    store.put(uri, b"1")
    store.delete(uri)
    store.delete(uri)
    assert not store.exists(uri)


def test_list_is_recursive_by_folder_and_empty_where_there_is_nothing(root):
    for name in ("b/2", "b.txt", "b/1/z", "bb/x", "a"):
        store.put(store.join(root, name), b"")
    base = len(store.head(store.join(root, "a")).uri) - 1
    assert [info.uri[base:] for info in store.list(root)] == ["a", "b.txt", "b/1/z", "b/2", "bb/x"]
    assert [info.uri[base:] for info in store.list(store.join(root, "b"))] == ["b/1/z", "b/2"]
    assert list(store.list(store.join(root, "nowhere"))) == []


@pytest.mark.parametrize("size_bytes", [0, 1, 5 * MIB, 21 * MIB])
def test_upload_reports_progress_and_arrives_whole(root, tmp_path, size_bytes):
    source = tmp_path / "source.bin"
    content = (bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]
    source.write_bytes(content)
    seen = []
    info = store.copy_in(source, store.join(root, "copy"), seen.append)
    assert store.read(info.uri) == content
    assert info.size_bytes == size_bytes
    assert seen == sorted(seen)
    assert seen[-1:] == [size_bytes][: bool(size_bytes)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_upload_leaves_nothing(root, tmp_path, stop):
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(30 * MIB))

    def interrupt(sent_bytes):
        if sent_bytes > 10 * MIB:
            raise stop("enough")

    with pytest.raises(stop, match="enough"):
        store.copy_in(source, store.join(root, "copy"), interrupt)
    assert list(store.list(root)) == []


def test_ranges_land_one_after_another_in_one_buffer(root):
    uri = store.join(root, "x")
    content = bytes(i * 7 % 251 for i in range(20 * MIB // 64)) * 64
    store.put(uri, content)
    ranges = [(5, 5), (3, 17 * MIB), (17 * MIB, 17 * MIB + 9), (0, 2), (len(content) - 1, len(content))]
    buffer = bytearray(sum(stop - start for start, stop in ranges))
    stats = store.ReadStats()
    store.read_into(uri, ranges, memoryview(buffer), stats=stats)
    assert bytes(buffer) == b"".join(content[start:stop] for start, stop in ranges)
    assert stats.bytes_read == len(buffer)
    assert stats.requests >= 3
    assert 0 < stats.min_s <= stats.mean_s <= stats.max_s <= stats.total_s


def test_reading_past_the_end_says_truncated(root):
    uri = store.join(root, "x")
    store.put(uri, b"0123456789")
    for start, stop in ((5, 11), (10, 12), (50, 60)):
        with pytest.raises(LocationError, match="truncated"):
            store.read_range(uri, start, stop)


def test_reading_with_an_old_etag_fails(root):
    uri = store.join(root, "x")
    store.put(uri, b"old")
    etag = store.head(uri).etag
    assert store.read_range(uri, 0, 3, etag=etag) == b"old"
    store.put(uri, b"new")
    with pytest.raises(store.PreconditionFailed, match="changed"):
        store.read_range(uri, 0, 3, etag=etag)


def test_the_tail_in_one_request(root):
    uri = store.join(root, "x")
    for content, wanted, tail in ((b"0123456789", 4, b"6789"), (b"01", 4, b"01"), (b"", 4, b"")):
        store.put(uri, content)
        info, data = store.read_tail(uri, wanted)
        assert (info.size_bytes, data) == (len(content), tail)
        assert info.etag == store.head(uri).etag


def test_wrong_buffers_are_the_callers_mistake(root):
    with pytest.raises(ValueError, match="the buffer 3"):
        store.read_into(store.join(root, "x"), [(0, 2)], memoryview(bytearray(3)))
    with pytest.raises(ValueError, match="not a range"):
        store.read_into(store.join(root, "x"), [(2, 1)], memoryview(bytearray(0)))
