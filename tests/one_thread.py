"""A fixture of tests that compute with torch."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_on_one_thread() -> Iterator[None]:
    """Tiny models: threads would only wait for each other, and repeatability is promised per thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
