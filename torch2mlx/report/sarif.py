"""A portability report as SARIF 2.1.0 (OASIS), which editors and code hosts show inline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch2mlx import _core

if TYPE_CHECKING:
    from torch2mlx.analyzer import Finding, PortabilityReport

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def _result(finding: Finding) -> dict[str, Any]:
    text = f"{finding.message}: {finding.what or finding.cls}. {finding.suggestion}."
    place: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": finding.path or finding.cls, "kind": "member"}]
    }
    if finding.file and finding.line:
        place["physicalLocation"] = {
            "artifactLocation": {"uri": finding.file.replace("\\", "/")},
            "region": {"startLine": finding.line},
        }
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [place],
    }


def as_sarif(report: PortabilityReport, version: str) -> dict[str, Any]:
    """One run with all rules and the report's findings as results."""
    rules = [
        {
            "id": name,
            "shortDescription": {"text": message},
            "help": {"text": suggestion},
            "defaultConfiguration": {"level": _LEVELS[severity]},
        }
        for name, severity, message, suggestion in _core.rules()
    ]
    driver = {"name": "torch2mlx", "version": version, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(f) for f in report.findings]}],
    }
