"""Tables as text: CSV and Markdown."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def write_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV text; the first row's keys are the heading, a cell is empty where a value is None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
