"""`python -m tools.notebooks [NAME ...]`: runs the notebooks of docs/notebooks, one by one.

Each runs in a new folder and checks itself: its cells assert what its text says. With `--write`
what the cells showed is kept in it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
#: Bytes that a notebook may have, with what its cells showed.
LARGEST = 60_000
_TIMEOUT = 300  # seconds of a cell
#: Where a warning says that a cell is.
_CELL = re.compile(r"\S*ipykernel_\d+\S*?\.py:")


def names() -> list[str]:
    """The notebooks, without their endings."""
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def executed(name: str) -> Any:
    """A notebook, run from its first cell to its last. Raises what a cell raises."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    root = str(FOLDER.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=_TIMEOUT, resources={"metadata": {"path": folder}}
        )
        client.execute(env=env)
    return notebook


def kept(notebook: Any) -> Any:
    """A notebook without what differs from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs = [o for o in cell.get("outputs", ()) if "site-packages" not in o.get("text", "")]
        for output in outputs:
            output.get("metadata", {}).clear()
            if "text" in output:
                output["text"] = _CELL.sub("cell:", output["text"])
        if cell.cell_type == "code":
            cell["outputs"] = outputs
    return notebook


def main(asked: list[str]) -> None:
    """Runs those that were asked for, or all."""
    import nbformat

    write = "--write" in asked
    chosen = [name for name in asked if name != "--write"] or names()
    began = time.monotonic()
    for name in chosen:
        notebook = executed(name)
        if write:
            nbformat.write(kept(notebook), FOLDER / f"{name}.ipynb")
    print(f"{len(chosen)} notebooks ran, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
