"""A portability report as SARIF 2.1.0 (OASIS), which editors and code hosts show inline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from torch2mlx import _core

if TYPE_CHECKING:
    from torch2mlx.analyzer import Finding, PortabilityReport

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_MLX = "https://ml-explore.github.io/mlx/build/html"
#: Page of MLX's or PyTorch's documentation -> the rules that it helps with.
_PAGES = {
    f"{_MLX}/python/nn/layers.html": "T2M001 T2M002 T2M004 T2M010 T2M011 T2M012 T2M013 T2M014",
    f"{_MLX}/python/nn/module.html": "T2M003 T2M005 T2M006 T2M009",
    f"{_MLX}/python/data_types.html": "T2M007 T2M008 T2M115",
    f"{_MLX}/python/ops.html": "T2M101 T2M102 T2M114",
    f"{_MLX}/usage/lazy_evaluation.html": "T2M103 T2M104 T2M108",
    f"{_MLX}/usage/function_transforms.html": "T2M105",
    f"{_MLX}/usage/unified_memory.html": "T2M106",
    f"{_MLX}/usage/numpy.html": "T2M107",
    f"{_MLX}/usage/indexing.html": "T2M109 T2M110",
    f"{_MLX}/python/random.html": "T2M111",
    "https://docs.pytorch.org/docs/stable/export.html": "T2M112 T2M113",
}
#: Page -> by rule.
HELP = {rule: page for page, rules in _PAGES.items() for rule in rules.split()}
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_ROOT = "%SRCROOT%"


def repository(folder: Path) -> Path:
    """The root of the repository that a folder is in; the folder itself outside of one."""
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return place
    return folder


def _artifact(file: str, root: Path) -> dict[str, Any]:
    """A file, by its path from the root; one outside of it (a library's) by its full path."""
    path = Path(file)
    if path.is_relative_to(root):
        return {"uri": quote(path.relative_to(root).as_posix()), "uriBaseId": _ROOT}
    return {"uri": path.as_uri()} if path.is_absolute() else {"uri": quote(path.as_posix())}


def _result(finding: Finding, index: int, root: Path) -> dict[str, Any]:
    text = f"{finding.message}: {finding.what or finding.cls}. {finding.suggestion}."
    place: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": finding.path or finding.cls, "kind": "member"}]
    }
    if finding.file and finding.line:
        place["physicalLocation"] = {
            "artifactLocation": _artifact(finding.file, root),
            "region": {"startLine": finding.line},
        }
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [place],
    }


def _rules() -> Iterator[dict[str, Any]]:
    for name, severity, message, suggestion in _core.rules():
        yield {
            "id": name,
            "shortDescription": {"text": f"{message[:1].upper()}{message[1:]}."},
            "help": {
                "text": f"{message}. What to do: {suggestion}. Rules: docs/analyzer.md.",
                "markdown": f"**{name}**: {message}.\n\nWhat to do: {suggestion}.",
            },
            "helpUri": HELP[name],
            "defaultConfiguration": {"level": _LEVELS[severity]},
        }


def as_sarif(
    report: PortabilityReport, version: str, root: str | Path | None = None
) -> dict[str, Any]:
    """One run with all rules and the report's findings as results.

    Files are named from `root` on: the repository that the working folder is in, if nothing else is
    said. Those outside of it keep their full path.
    """
    place = repository(Path.cwd()) if root is None else Path(root).absolute()
    rules = list(_rules())
    numbers = {rule["id"]: index for index, rule in enumerate(rules)}
    driver = {"name": "torch2mlx", "version": version, "rules": rules}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {_ROOT: {"uri": f"{place.as_uri().rstrip('/')}/"}},
                "results": [_result(f, numbers[f.rule], place) for f in report.findings],
            }
        ],
    }
