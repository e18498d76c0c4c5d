"""The verb analyze: what converting a model would meet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch2mlx.cli.progress import step
from torch2mlx.cli.verb import Answer, Verb, planned
from torch2mlx.errors import ConversionError


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "source",
        help="a folder with a config.json, a checkpoint, file.py, or file.py:function or "
        "package.module:function, which answers a model",
    )
    sub.add_argument(
        "--html", metavar="FILE", help="write a page with findings, tree and treemap too"
    )
    sub.add_argument("--sarif", metavar="FILE", help="write SARIF 2.1.0 for editors too")
    sub.add_argument(
        "--fail-on",
        choices=("blocker", "warning", "none"),
        help="exit 1 where there is one, or where no layer's type is known, as without this; "
        "none: exit 0 whatever is found",
    )


def _analyze(args: argparse.Namespace) -> Answer:
    from torch2mlx.analyzer import analyze
    from torch2mlx.checkpoint.write.replacing import Guard, paths_of
    from torch2mlx.checkpoint.write.tree import check_one, write_small
    from torch2mlx.export.capture.sources import paths
    from torch2mlx.pages import page

    step(args, f"reading the model of {args.source}")
    report = analyze(args.source)
    guard = Guard(paths_of(*paths(args.source)), args.force)
    pages = [
        (args.html, lambda: page(report), _has(b'content="torch2mlx"')),
        (args.sarif, lambda: _sarif(report), _has(b'"name": "torch2mlx"')),
    ]
    wanted = [(Path(path), make().encode(), ours) for path, make, ours in pages if path]
    if args.dry_run:
        files = [str(p) for p, content, ours in wanted if check_one(p, content, guard, ours)]
        return planned(files, {"analyzed": report.headline()})
    for path, content, ours in wanted:
        write_small(path, content, guard, ours)
    forms = {"html": lambda: page(report), "sarif": lambda: _sarif(report)}
    failure = report.failure(args.fail_on)
    error = ConversionError(failure) if failure else None
    return Answer(report.to_dict(), str(report), forms, error)


def _sarif(report: Any) -> str:
    from torch2mlx import __version__
    from torch2mlx.report.sarif import as_sarif

    return json.dumps(as_sarif(report, __version__), indent=2) + "\n"


def _has(mark: bytes) -> Callable[[Path], bool]:
    """Whether a page or a report was written here: it names its writer."""
    return lambda path: mark in path.read_bytes()


ANALYZE = Verb(
    "analyze",
    "say what converting a model would meet",
    _describe,
    _analyze,
    (
        "torch2mlx analyze folder/",
        "torch2mlx analyze folder/ --html report.html --sarif findings.sarif",
        "torch2mlx analyze nets.py:make --format sarif --fail-on blocker",
    ),
    formats=("text", "json", "sarif", "html"),
    writes=True,
)
