"""`skyfan demo` renders its galaxies where no data is, and nowhere else: DATASET may name the user's own."""

import pytest

from skyfan import sky, store
from skyfan.cli.demo import make_demo_dataset


@pytest.mark.parametrize("dataset", ["memory://sky/mine", "memory://sky/mine/1.pt"], ids=["folder", "file"])
def test_data_that_is_there_stays_as_it_is(monkeypatch, dataset):
    monkeypatch.setattr(sky, "simulate", lambda *_: pytest.fail("rendered over the user's data"))
    store.put("memory://sky/mine/1.pt", b"galaxies")
    make_demo_dataset(dataset, quiet=True)
    assert store.read("memory://sky/mine/1.pt") == b"galaxies"


def test_galaxies_are_rendered_where_nothing_is(monkeypatch):
    rendered = []
    monkeypatch.setattr(sky, "simulate", lambda *arguments: rendered.append(arguments))
    make_demo_dataset("memory://sky/new.pt", quiet=True)
    assert [(count, out) for count, _, out, *_ in rendered] == [(1000, "memory://sky/new.pt")]
