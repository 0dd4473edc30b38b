"""Tests of the pipeline are not tests of its page: drawing it is left out, but where a test asks for it."""

import pytest


@pytest.fixture(autouse=True)
def _no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_page" not in request.fixturenames:
        monkeypatch.setattr("skyfan.report.page.redshift_sections", lambda *_: [])
        monkeypatch.setattr("skyfan.report.page.rank_timeline", lambda *_: None)


@pytest.fixture
def real_page() -> None:
    """The page with its figures."""
