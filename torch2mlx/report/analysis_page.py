"""The page of an analysis: findings, a treemap of the parameters, the tree of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch2mlx.report.page import (
    MEANINGS,
    Cell,
    Head,
    Item,
    Kind,
    Line,
    Verdict,
    numbers,
    rendered,
    shown_size,
)
from torch2mlx.report.sarif import HELP
from torch2mlx.report.tree import marks
from torch2mlx.report.treemap import Area, Box, areas, squarified

if TYPE_CHECKING:
    from torch2mlx.analyzer import Finding, PortabilityReport

_KINDS: dict[str, Kind] = {"error": "bad", "warning": "warn", "info": ""}
_HEADS = (Head("Severity"), Head("Rule"), Head("Where"), Head("What"), Head("Modules", True))
_GRAVE = {"error": 2, "warning": 1, "info": 0}
#: Widths and heights in pixels at which a map's labels are laid out; the stylesheet has them too.
_MAPS = {"wide": (640.0, 360.0), "narrow": (340.0, 460.0)}


@dataclass(frozen=True)
class _Labelled(Box):
    """A rectangle that knows whether its name has room."""

    def labelled(self, name: str) -> bool:
        width, height = _MAPS[name]
        return self.width * width / 100 >= 56 and self.height * height / 100 >= 22

    def roomy(self, name: str) -> bool:
        return self.height * _MAPS[name][1] / 100 >= 38


def analysis_page(report: PortabilityReport) -> str:
    """The whole page; what stops a conversion stands first."""
    graves = [f for f in report.findings if f.severity != "info"]
    found = areas(report.nodes)
    total = sum(area.parameters for area in found)
    return rendered(
        "analyze.html",
        f"{report.model}: what converting it would meet",
        "analyze",
        _verdict(report),
        (
            _coverage(report),
            ("parameters and buffers", f"{sum(report.parameters.values()):,}"),
            ("converted", shown_size(report.output_bytes)),
            ("memory at most, beside the source", shown_size(report.peak_bytes)),
        ),
        [Item(_what(f), _KINDS[f.severity], _where(f), f.suggestion) for f in graves],
        "Nothing was found that stops a conversion or changes what the model computes.",
        heads=_HEADS,
        findings=[_line(finding) for finding in report.findings],
        kinds=[(s, s) for s in _GRAVE if any(f.severity == s for f in report.findings)],
        maps=[(name, _boxes(name, found)) for name in _MAPS] if total else [],
        total=total,
        tree=list(marks(report.nodes)),
        statuses=_statuses(report),
    )


def _boxes(name: str, found: Sequence[Area]) -> list[_Labelled]:
    return [_Labelled(**vars(box)) for box in squarified(found, *_MAPS[name])]


def _statuses(report: PortabilityReport) -> list[tuple[str, str]]:
    """The statuses that modules have, with their meanings."""
    alike = {"container": "own", "unmapped": "refused"}
    found = {alike.get(node.status, node.status) for node in report.nodes}
    return [(status, text) for status, text in MEANINGS.items() if status in found]


def _verdict(report: PortabilityReport) -> Verdict:
    blockers = len(report.blockers)
    if blockers:
        return Verdict(numbers(blockers, "blocker"), "bad")
    if report.coverage is None:
        return Verdict("the types of its layers are not known", "warn")
    warnings = sum(f.severity == "warning" for f in report.findings)
    if warnings:
        return Verdict(f"no blockers, {numbers(warnings, 'warning')}", "warn")
    return Verdict("nothing in the way", "good")


def _coverage(report: PortabilityReport) -> tuple[str, str]:
    """(what a figure is of, figure)."""
    if report.coverage is None:
        return "coverage: no types of layers", "unknown"
    return f"coverage of {report.total_layers} layers", f"{report.coverage:.1%}"


def _what(finding: Finding) -> str:
    times = f", in {finding.count} modules" if finding.count > 1 else ""
    return f"{finding.message}: `{finding.what or finding.cls}`{times} ({finding.rule})"


def _where(finding: Finding) -> str:
    if not finding.file:
        return finding.path or "(root)"
    return f"{finding.path or '(root)'}, {finding.place}"


def _line(finding: Finding) -> Line:
    cells = (
        Cell(finding.severity, _GRAVE[finding.severity], _KINDS[finding.severity]),
        Cell(finding.rule, link=HELP[finding.rule]),
        Cell(_where(finding), code=True),
        Cell(f"{finding.message}: `{finding.what or finding.cls}`; {finding.suggestion}"),
        Cell(str(finding.count), finding.count),
    )
    return Line(cells, finding.severity)
