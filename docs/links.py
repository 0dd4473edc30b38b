"""A hook of mkdocs: links to files of the repository that are no pages become the file's path."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?P<path>(?:\.\./)+[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """`[text](../infra/x.tf)` → text (`infra/x.tf`); a path that is not there stays a link, and fails the build."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def shown(found: re.Match[str]) -> str:
        target = (folder / found["path"]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return found[0]
        text, path = found[1], f"`{target.relative_to(ROOT)}`"
        return path if text.strip("`") == path.strip("`") else f"{text} ({path})"

    return _OUTSIDE.sub(shown, markdown)
