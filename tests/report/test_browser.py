"""The page in a headless Chromium: as a reader sees it, by mouse, by keyboard, on a phone and in the dark."""

from pathlib import Path

import pytest

from tests.conftest import make_sample
from tests.report.browser import CHROMIUM, Page, chromium
from tests.report.test_page import page_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH; install it to test pages in a browser"),
]

WALL = "table.sortable th:nth-child(9)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page_of(make_sample(folder / "sky.pt")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def column(page: Page, number: int) -> list[str]:
    cells = f"[...document.querySelectorAll('table.sortable tbody td:nth-child({number})')]"
    return page.value(f"{cells}.map((cell) => cell.textContent)")


def sorted_as(page: Page) -> list[str]:
    headings = "[...document.querySelectorAll('table.sortable th')]"
    return page.value(f"{headings}.map((heading) => heading.getAttribute('aria-sort'))")


def test_nothing_is_asked_of_the_network_and_nothing_complains(page: Page, file: Path):
    page.open(file)
    assert page.value("document.querySelectorAll('svg').length") == 5
    assert page.complaints == []


def test_a_heading_sorts_by_its_numbers_and_says_so(page: Page, file: Path):
    page.open(file)
    assert column(page, 1) == [str(rank) for rank in range(9)]
    page.click("table.sortable th:nth-child(2) button")
    assert column(page, 2) == ["5"] + ["12"] * 8
    assert column(page, 1)[0] == "8"
    assert sorted_as(page) == ["none", "ascending"] + ["none"] * 8
    page.click(f"{WALL} button")
    page.click(f"{WALL} button")
    assert column(page, 1) == [str(rank) for rank in range(8, -1, -1)]
    assert sorted_as(page)[8] == "descending"


def test_the_table_sorts_by_keyboard(page: Page, file: Path):
    page.open(file)
    page.value("document.querySelector('[aria-label=\"Table of ranks\"]').focus()")
    page.press("Tab", 9)
    assert page.value("document.activeElement.textContent") == "rank"
    page.press("Enter", 13, "\r")
    assert column(page, 1) == [str(rank) for rank in range(8, -1, -1)]
    page.press("Tab", 9)
    page.press(" ", 32, " ")
    assert sorted_as(page)[:2] == ["none", "ascending"]


def test_pictures_and_figures_are_described(page: Page, file: Path):
    page.open(file)
    assert page.value("document.images.length") == 24
    assert page.value("[...document.images].every((one) => one.complete && one.naturalWidth === 32)")
    assert page.value("[...document.images].every((one) => one.alt.includes('redshift'))")
    assert page.value("[...document.querySelectorAll('svg')].every((one) => one.getAttribute('aria-label'))")


@pytest.mark.parametrize("width", [320, 375, 768])
def test_a_narrow_window_never_scrolls_the_page_sideways(page: Page, file: Path, width: int):
    page.open(file, width=width)
    assert page.value("document.documentElement.scrollWidth") <= width


def test_no_table_is_cut_on_a_phone(page: Page, file: Path):
    page.open(file, width=400)
    cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.value(cut) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(page: Page, file: Path, dark: bool):
    page.open(file, dark=dark)
    ground = luminance(page.value("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.2) == dark
    for selector in ("body", "p.lead", "caption", ".tile span", ".gallery span", "figure svg"):
        ink = luminance(page.value(f"getComputedStyle(document.querySelector('{selector}')).color"))
        lighter, darker = max(ink, ground), min(ink, ground)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` by WCAG 2.2."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
