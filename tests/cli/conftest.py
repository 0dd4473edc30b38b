"""What tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of pytest-xdist have COLUMNS; a pipe of a user does not."""
    monkeypatch.delenv("COLUMNS", raising=False)
