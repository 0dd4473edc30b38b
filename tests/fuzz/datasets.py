"""Datasets: opened, what was left out listed, first and last row of every tensor read."""

import tempfile
from pathlib import Path
from random import Random

from skyfan.errors import DatasetError
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from tests.fuzz.archives import archive
from tests.fuzz.pickles import TEXTS, PickleWriter, integer, marked_tuple, text
from tests.fuzz.runner import main

STORAGES = {"0": 80, "1": 16, "2": 4_000}
_FOLDER = Path(tempfile.mkdtemp(prefix="skyfan-fuzz-"))


def contents(random: Random) -> dict[str, bytes]:
    """The entries of a file whose root is likely to be a dataset."""
    writer = PickleWriter(random, STORAGES)
    kind = random.randrange(5)
    members = [
        writer.tensor_value() if random.random() < 0.6 else writer.value() for _ in range(random.randrange(1, 4))
    ]
    if kind == 0:
        root = writer.value()
    elif kind == 1:
        root = marked_tuple(*members)
    elif kind == 2:
        state = writer.dictionary([(text("tensors"), marked_tuple(*members))])
        root = writer.built("torch.utils.data.dataset TensorDataset", state)
    elif kind == 3:  # one storage under many names: a few bytes each, and a whole tensor when it is read
        shared, again = b"r\x02\x00\x10\x00", b"j\x02\x00\x10\x00"
        names = [text(f"t{number}") for number in range(random.choice((1, 2, 200)))]
        first, *others = names
        tensor = writer.tensor("2", (4, 250), 1_000) + shared
        root = writer.dictionary([(first, tensor), *((name, again) for name in others)])
    else:
        root = writer.dictionary([(_key(random, writer), member) for member in members])
    entries = {"data.pkl": writer.pickle(root)} | {f"data/{key}": bytes(size) for key, size in STORAGES.items()}
    if random.random() < 0.5:
        entries["byteorder"] = random.choice((b"little", b"little", b"big", b"middle", b"\xff"))
    return entries


def _key(random: Random, writer: PickleWriter) -> bytes:
    if random.random() < 0.8:
        return text(random.choice(TEXTS))
    return integer(random.choice((0, 1, 10**5000))) if random.random() < 0.5 else writer.value(4)


def open_and_read(random: Random) -> None:
    """One execution."""
    path = _FOLDER / "case.pt"
    path.write_bytes(archive(random, contents(random)))
    layout = open_tensorfile(path)
    assert layout.samples * layout.sample_bytes <= 4 * layout.size_bytes
    for name in layout.names:
        for row in (0, layout.samples - 1):
            read_rows(layout, name, row, row + 1)


if __name__ == "__main__":
    main(open_and_read, DatasetError)
