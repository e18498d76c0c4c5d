"""`python -m tools.site [FOLDER]`: builds the documentation site strictly, and checks every link.

Links within the site have to lead to a file, and to an anchor where they name one; no page may
load anything from elsewhere. Links to other sites are counted, not tried. The site stays in the
folder, if one is named.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Tags whose sources a browser loads by itself.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def has(self, anchor: str) -> bool:
        """Whether an anchor, as a link names it, is there."""
        return unquote(anchor) in self.anchors

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects one tag's."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in _LOADED and _LOADED[tag] in given and given.get("rel") != "canonical":
            self.loads.append(given[_LOADED[tag]])


def faults(root: Path) -> Iterator[str]:
    """What is wrong with a site: a line each."""
    root = root.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(root)
        for link in page.loads:
            if urlsplit(link).netloc:
                yield f"{name}: loads {link}"
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or root not in target.parents:
                yield f"{name}: {link} leads nowhere"
            elif parts.fragment and target in pages and not pages[target].has(parts.fragment):
                yield f"{name}: {link} has no such anchor"


def main() -> int:
    """Prints what is wrong; 1 where something is."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="torch2mlx-site-"))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    if subprocess.run(command).returncode:
        print("site: mkdocs has something to say; see above")
        return 1
    wrong = list(dict.fromkeys(faults(folder)))
    print("".join(f"site: {line}\n" for line in wrong), end="")
    pages = [Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")]
    print(
        f"site: {len(pages)} pages, {sum(len(p.links) for p in pages)} links, {len(wrong)} faults"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
