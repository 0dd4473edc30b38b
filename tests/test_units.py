"""Sizes as people read them."""

import pytest

from skyfan.units import format_size, parse_size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1000 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (1_025_300, "1001 KB"),
        (2**20 - 1, "1 MB"),
        (26_214_400, "25 MB"),
        (1010 * 2**30, "1010 GB"),
        (5_000 * 2**40, "5000 TB"),
    ],
)
def test_no_size_is_written_with_an_exponent(size_bytes, text):
    assert format_size(size_bytes) == text
    assert parse_size(text) == pytest.approx(size_bytes, rel=5e-3) if size_bytes else True
