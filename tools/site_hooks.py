"""What mkdocs does to the pages of docs/ that the repository shows as they are."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#:\s]+)((?:#[\w-]+)?)\)")


def _title(path: str) -> str:
    """The heading of a page, which the site shows in place of the name of its file."""
    return Path(path).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside of docs/ become their paths: the site has no such pages. A link to a
    folder leads to its README, and one that shows the name of a page shows its title."""
    folder = posixpath.dirname(page.file.src_uri)

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if path.startswith("docs/"):
            inner = Path(path, "README.md").is_file()
            place = f"{link[2].rstrip('/')}/README.md" if inner else link[2]
            return f"[{_title(path) if link[1].endswith('.md') else link[1]}]({place}{link[3]})"
        return f"`{path}`" if link[1].strip("`") == path else f"{link[1]} (`{path}`)"

    return _LINK.sub(outside, markdown)
