"""`upload` writes whole objects, skips what is there, and can be interrupted."""

import boto3
import numpy as np
import pytest

from skyfan import curation, store
from skyfan.errors import LocationError
from skyfan.formats.torch import write_tensorfile
from tests.moto_server import moto_server, point_to

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint():
    with moto_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    point_to(endpoint, monkeypatch, tmp_path / "none")
    boto3.client("s3").create_bucket(Bucket="sky")
    return "s3://sky"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "100MB"
    for number in (1, 2):
        (root / "parts").mkdir(parents=True, exist_ok=True)
        write_tensorfile(root / "parts" / f"{number}.pt", [rng.normal(size=(20, 5, 32, 32)).astype(np.float32)])
    (root / "README").write_text("two parts")
    (root / ".hidden").write_text("not data")
    return root


def test_a_folder_goes_up_with_its_names_and_again_skips_all(bucket, folder):
    steps = []
    first = curation.upload(folder, f"{bucket}/data", progress=lambda done, total: steps.append((done, total)))
    assert sorted(first.uploaded) == [f"{bucket}/data/{name}" for name in ("README", "parts/1.pt", "parts/2.pt")]
    assert store.read(f"{bucket}/data/parts/2.pt") == (folder / "parts" / "2.pt").read_bytes()
    assert steps[-1][0] == steps[-1][1] == first.uploaded_bytes
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    again = curation.upload(folder, f"{bucket}/data")
    assert (again.uploaded, again.uploaded_bytes, sorted(again.skipped)) == ([], 0, sorted(first.uploaded))


def test_a_large_file_goes_up_in_parts(bucket, tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(np.random.default_rng(1).bytes(20 * 2**20))
    steps = []
    curation.upload(path, f"{bucket}/large.bin", progress=lambda done, _: steps.append(done))
    assert store.read(f"{bucket}/large.bin") == path.read_bytes()
    assert len(steps) > 2


def test_a_changed_file_of_the_same_size_goes_up_again(tmp_path):
    path, image = tmp_path / "1.pt", np.zeros((20, 5, 32, 32), dtype=np.float32)
    write_tensorfile(path, [image, image])
    curation.upload(path, "memory://upload/1.pt")
    changed = image.copy()
    changed[10, 2, 16, 16] = 1
    # One pixel in the middle: the size stays, the checksum in the ZIP directory at the end does not.
    write_tensorfile(path, [image, changed])
    assert curation.upload(path, "memory://upload/1.pt").uploaded == ["memory://upload/1.pt"]
    assert store.read("memory://upload/1.pt") == path.read_bytes()


@pytest.mark.parametrize("size_bytes", [2**20, 3 * 2**20])
def test_a_change_in_the_middle_goes_up_again_without_checksums_too(tmp_path, size_bytes):
    path = tmp_path / "sky.npy"
    path.write_bytes(bytes(size_bytes))
    curation.upload(path, "memory://upload/sky.npy")
    assert curation.upload(path, "memory://upload/sky.npy").skipped
    changed = bytearray(size_bytes)
    changed[size_bytes // 4 : 3 * size_bytes // 4] = b"1" * (size_bytes // 2)
    path.write_bytes(changed)
    assert curation.upload(path, "memory://upload/sky.npy").uploaded
    assert store.read("memory://upload/sky.npy") == changed


def test_an_empty_file_goes_up_once(tmp_path):
    (tmp_path / "empty").touch()
    assert curation.upload(tmp_path / "empty", "memory://upload/empty").uploaded
    assert curation.upload(tmp_path / "empty", "memory://upload/empty").skipped


def test_force_uploads_what_is_there(folder):
    curation.upload(folder / "README", "memory://upload/README")
    assert curation.upload(folder / "README", "memory://upload/README", force=True).uploaded


def test_a_file_to_a_prefix_keeps_its_name(folder):
    assert curation.upload(folder / "README", "memory://prefix/").uploaded == ["memory://prefix/README"]


def test_interrupted_it_leaves_whole_objects_only_and_takes_the_rest_up(bucket, folder):
    def interrupt(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curation.upload(folder, f"{bucket}/again", progress=interrupt)
    for info in store.list(f"{bucket}/again"):
        assert store.read(info.uri) == (folder / info.uri.removeprefix(f"{bucket}/again/")).read_bytes()
    rest = curation.upload(folder, f"{bucket}/again")
    assert rest.uploaded
    assert rest.skipped
    assert {info.uri for info in store.list(f"{bucket}/again")} == {*rest.uploaded, *rest.skipped}


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(LocationError, match="absent does not exist; name a file or a folder"):
        curation.upload(tmp_path / "absent", "memory://upload/")
    with pytest.raises(LocationError, match="holds no files to upload"):
        curation.upload(tmp_path, "memory://upload/")
