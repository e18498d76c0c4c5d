"""Driver: what converting a model would meet, all at once, before anything is converted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx import _core
from torch2mlx.analysis.files import named
from torch2mlx.analysis.records import STATUSES, Node, Tree, flatten, flatten_checkpoint
from torch2mlx.checkpoint.plan.configured import from_config
from torch2mlx.checkpoint.source import config_model
from torch2mlx.checkpoint.source.module_tree import is_module
from torch2mlx.checkpoint.source.opening import open_checkpoint
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.common import cards
from torch2mlx.common.amounts import counted, shown_bytes
from torch2mlx.errors import CheckpointError, ConversionError, Torch2MLXError
from torch2mlx.export.capture.factories import is_factory
from torch2mlx.export.capture.sources import model_of
from torch2mlx.export.lower.ops import operator_names
from torch2mlx.types import Checkpoint

_FAILING = {"blocker": ("error",), "warning": ("error", "warning")}
_WAY_OUT = (
    "analyze the model itself (an nn.Module, or file.py:function), or a folder with a config.json "
    "where torch and transformers are installed: pip install 'torch2mlx[torch]' transformers"
)
#: Rules about layers that are no mlx.nn class or function, kit layers included.
_UNMAPPED = ("T2M001", "T2M002", "T2M010", "T2M011", "T2M014")


@dataclass(frozen=True)
class Finding:
    """One rule that applies. `path`: the first of `count` modules; `file`, `line`: in source."""

    rule: str
    severity: str
    path: str
    cls: str
    message: str
    suggestion: str
    what: str = ""
    file: str = ""
    line: int = 0
    count: int = 1

    @property
    def place(self) -> str:
        """Where to look: file and line, or the module's path."""
        if self.file:
            return f"{os.path.basename(self.file)}:{self.line}"
        return self.path or "(root)"


@dataclass(frozen=True)
class PortabilityReport:
    """The result of `analyze`.

    `coverage` is the share of layers that MLX has, 0 to 1; what is inside a layer counts with it;
    None where no type of a layer is known, as of a checkpoint alone: then nothing is known of it.
    `parameters` are numbers by status (mapped, kit, unmapped, own, ...); `output_bytes` estimates
    the converted file, `peak_bytes` the memory that converting takes beside the source.
    """

    model: str
    coverage: float | None
    total_layers: int
    mapped_layers: int
    unmapped_layers: tuple[str, ...]
    findings: tuple[Finding, ...]
    parameters: Mapping[str, int]
    output_bytes: int
    peak_bytes: int
    nodes: tuple[Node, ...] = ()

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """Findings that have to be dealt with before the model can run in MLX."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data, without the module tree."""
        return {
            "model": self.model,
            "coverage": self.coverage,
            "total_layers": self.total_layers,
            "mapped_layers": self.mapped_layers,
            "unmapped_layers": list(self.unmapped_layers),
            "findings": [vars(finding) for finding in self.findings],
            "blockers": len(self.blockers),
            "parameters": dict(self.parameters),
            "output_bytes": self.output_bytes,
            "peak_bytes": self.peak_bytes,
        }

    def __repr__(self) -> str:
        return f"<PortabilityReport: {self.headline()}>"

    def _repr_html_(self) -> str:
        heads = ("severity", "rule", "where", "what", "what to do")
        rows = [
            (f.severity, f.rule, f.place, f"{f.message}: {f.what or f.cls}", f.suggestion)
            for f in self.findings
        ]
        facts = {"layers that MLX lacks": ", ".join(self.unmapped_layers)}
        return cards.card(self.headline(), facts, cards.table("Findings", heads, rows))

    def __str__(self) -> str:
        return "\n".join([self.headline(), *self._lines()])

    def headline(self) -> str:
        """One line: coverage, blockers, sizes."""
        total = sum(self.parameters.values())
        warnings = sum(finding.severity == "warning" for finding in self.findings)
        return (
            f"{self.model}: {self.covered()}, {counted(len(self.blockers), 'blocker')}, "
            f"{counted(warnings, 'warning')}, "
            f"{total:,} parameters and buffers, {shown_bytes(self.output_bytes)} converted"
        )

    def covered(self) -> str:
        """The coverage in words: a share, that there are no layers, or that it is unknown."""
        if self.coverage is None:
            return "coverage unknown (no types of layers)"
        if not self.total_layers:
            return "no layers"
        return f"coverage {self.coverage:.1%} ({self.mapped_layers} of {self.total_layers} layers)"

    def failure(self, least: str | None = None) -> str | None:
        """Why a check fails, in one sentence, or None where it passes.

        `least`: "blocker" or "warning" fail for these, "none" for nothing. A report that knows no
        types of layers fails for all but "none": it says nothing of the model. Raises ValueError
        for another word.
        """
        if least not in (None, "none", *_FAILING):
            raise ValueError(f"least is blocker, warning or none, not {least!r}")
        if least == "none":
            return None
        severe = [f for f in self.findings if f.severity in _FAILING.get(least or "", ())]
        if severe:
            kinds = "blockers" if least == "blocker" else "blockers or warnings"
            return f"{self.model}: {len(severe)} {kinds}, first {severe[0].rule} {severe[0].place}"
        if self.coverage is None:
            return (
                f"{self.model}: the types of its layers are not known, so nothing is known of what "
                f"MLX has; {_WAY_OUT}"
            )
        return None

    def _lines(self) -> list[str]:
        """A table of findings, and what to do about each rule."""
        lines = []
        if self.unmapped_layers:
            lines.append(f"unmapped layers: {', '.join(self.unmapped_layers)}")
        width = max((len(finding.place) for finding in self.findings), default=0)
        for f in self.findings:
            times = f" (x{f.count})" if f.count > 1 else ""
            head = f"  {f.severity:7} {f.rule}  {f.place:{width}}"
            lines.append(f"{head}  {f.message}: {f.what or f.cls}{times}")
        advice = {f.rule: f.suggestion for f in self.findings}
        return [*lines, *(f"  {rule}: {text}" for rule, text in sorted(advice.items()))]


def _config(path: Path) -> Any | None:
    """The model of the config.json at or beside a path, on the meta device; None without one."""
    if path.name == "config.json":
        config = path
    else:
        config = (path if path.is_dir() else path.parent) / "config.json"
    if not config.is_file():
        return None
    content = config_model.read(config)
    name = config_model.architecture(config, content)
    return name and config_model.build(config, content, name, config_model.Budget())


def _tree(source: Any) -> tuple[str, Tree]:
    """(name, records) of a module, of a config.json, or of a checkpoint's keys."""
    if is_module(source):
        return type(source).__name__, flatten(source, operator_names())
    if not isinstance(source, (str, os.PathLike)):
        what = type(source).__name__
        raise ConversionError(f"cannot analyze a {what}: pass an nn.Module or a path")
    text = named(os.fspath(source))
    if is_factory(text):
        return _tree(model_of(text))
    path = checked(source, "source")
    built = _config(path)
    if built is not None:
        return type(built).__name__, flatten(built, operator_names())
    if path.name == "config.json":
        raise CheckpointError(f"{path}: names no class of an installed transformers")
    checkpoint = open_checkpoint(path, listing=True)
    return os.fspath(path), flatten_checkpoint(checkpoint.tensors, _settled(checkpoint))


def _settled(checkpoint: Checkpoint) -> bool:
    """Whether a config.json tells the layout of every tensor, as convert would ask it."""
    config = config_model.find_config(checkpoint.files)
    try:
        return config is not None and from_config(checkpoint, config, None, False) is not None
    except Torch2MLXError:
        return False


def analyze(source: Any) -> PortabilityReport:
    """Applies all rules to a model; nothing is converted and no weights are read.

    `source`: an nn.Module (the meta device is enough); a folder or file with a transformers
    config.json; `file.py:function` or `package.module:function`, whose function is called and
    answers a model (alone or with example inputs), or a .py file with one such function or class;
    or a checkpoint, of which only keys and shapes are read. Raises ConversionError for anything
    else, CheckpointError for a path that is none of these, TranslationError for a function that
    fails or answers something else.
    """
    name, tree = _tree(source)
    return _report(name, tree)


def _report(model: str, tree: Tree) -> PortabilityReport:
    found, layers, mapped, parameters, nbytes = _core.analyze(
        tree.modules, tree.facts, len(tree.classes)
    )
    rules = _core.rules()
    findings = []
    for rule, module, fact, count in found:
        identifier, severity, message, suggestion = rules[rule]
        node = tree.nodes[module]
        note = None if fact is None else tree.notes[int(tree.facts[fact]["note"])]
        findings.append(
            Finding(
                identifier,
                severity,
                node.path,
                node.cls,
                message,
                suggestion,
                note.what if note else node.reason,
                note.file if note else "",
                note.line if note else 0,
                count,
            )
        )
    unmapped = sorted({f.cls for f in findings if f.rule in _UNMAPPED})
    return PortabilityReport(
        model,
        None if tree.untyped else mapped / layers if layers else 1.0,
        layers,
        mapped,
        tuple(unmapped),
        tuple(sorted(findings, key=_order)),
        dict(zip(STATUSES, parameters, strict=True)),
        sum(nbytes),
        min(sum(nbytes), 300 << 20),
        tree.nodes,
    )


def _order(finding: Finding) -> tuple[int, str, str, int]:
    return (
        ("error", "warning", "info").index(finding.severity),
        finding.rule,
        finding.path,
        finding.line,
    )
