"""Pages that code, configuration and other pages name are there."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The path of a page in any file, and the target of a link in a page.
NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]+\.md")
LINKED = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")
MADE_BY_MAKE_DOCS = {"docs/reference/cli.md"}


def test_every_page_that_is_named_exists():
    missing = set()
    for path in _tracked("*"):
        for name in NAMED.findall(path.read_text(errors="ignore")):
            if not (ROOT / name).exists() and name not in MADE_BY_MAKE_DOCS:
                missing.add((str(path.relative_to(ROOT)), name))
    assert not missing


def test_every_link_of_a_page_leads_somewhere():
    missing = set()
    for path in _tracked("*.md"):
        for target in LINKED.findall(path.read_text()):
            found = (path.parent / target).resolve()
            if not found.exists() and str(found.relative_to(ROOT)) not in MADE_BY_MAKE_DOCS:
                missing.add((str(path.relative_to(ROOT)), target))
    assert not missing


def _tracked(pattern):
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.splitlines() if not name.startswith(("CHANGELOG", "skyfan/v1/"))]
    return [path for path in paths if path.is_file()]
