"""A portability report as one self-contained page: a treemap of parameters, findings, the tree.

No script, no network: the treemap is laid out here, and sections fold by themselves.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch2mlx.analysis.records import Node
    from torch2mlx.analyzer import Finding, PortabilityReport

_COLORS = {
    "mapped": "#2f9e6e",
    "kit": "#3b82c4",
    "own": "#7a8aa0",
    "container": "#7a8aa0",
    "custom": "#d99a2b",
    "unmapped": "#cf4b4b",
    "refused": "#cf4b4b",
}
_MEANING = {
    "mapped": "MLX has it",
    "kit": "torch2mlx.kit has it",
    "own": "the model's own class",
    "custom": "forward to be ported",
    "unmapped": "no counterpart",
}
_WIDTH, _HEIGHT = 1000.0, 360.0
_LARGEST = 400  # rectangles; smaller ones are drawn together

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1040px;padding:0 1rem;
color:#1d2733;background:#fff}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.figures{display:flex;gap:2rem;flex-wrap:wrap;margin:1rem 0}
.figures b{display:block;font-size:1.6rem}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.35rem .6rem;vertical-align:top;border-bottom:1px solid #dde3ea}
th{font-weight:600}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.error{color:#b3261e}.warning{color:#8a5a00}.info{color:#33618f}
details{margin-left:1rem}summary{cursor:pointer}.leaf{margin-left:1.9rem}
.key span{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem 0 1rem;border-radius:2px}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:#fff}
@media (prefers-color-scheme:dark){body{background:#14181d;color:#dbe2ea}td,th{border-color:#2c343d}
.error{color:#ff9086}.warning{color:#f2c063}.info{color:#8fbfec}}
"""


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 10**9 else f"{nbytes / 1e6:.1f} MB"


def _split(items: list[tuple[int, Node]], box: tuple[float, float, float, float]) -> list[str]:
    """Rectangles of a treemap: halves by weight, along the longer side, until one is left."""
    x, y, w, h = box
    if len(items) == 1:
        return [_rectangle(items[0], box)]
    total, half, cut = sum(size for size, _ in items), 0, 0
    while cut < len(items) - 1 and (half + items[cut][0] <= total / 2 or cut == 0):
        half += items[cut][0]
        cut += 1
    share = half / total
    if w >= h:
        first, second = (x, y, w * share, h), (x + w * share, y, w * (1 - share), h)
    else:
        first, second = (x, y, w, h * share), (x, y + h * share, w, h * (1 - share))
    return _split(items[:cut], first) + _split(items[cut:], second)


def _rectangle(item: tuple[int, Node], box: tuple[float, float, float, float]) -> str:
    size, node = item
    x, y, w, h = box
    color = _COLORS[node.status]
    title = f"{node.path or '(root)'} · {node.cls} · {size:,}"
    name = node.path.rpartition(".")[2] or node.cls
    label = ""
    if w > 8 * len(name) + 8 and h > 20:
        label = f'<text x="{x + 5:.1f}" y="{y + 15:.1f}">{escape(name)}</text>'
    size_of = f'width="{max(w - 1, 0.5):.1f}" height="{max(h - 1, 0.5):.1f}"'
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" {size_of}'
    return f'<g><title>{escape(title)}</title>{shape} fill="{color}"/>{label}</g>'


def _treemap(report: PortabilityReport) -> str:
    sized = [(node.parameters, node) for node in report.nodes if node.parameters]
    sized = sorted(sized, key=lambda item: -item[0])[:_LARGEST]
    if not sized:
        return "<p>The model has no parameters.</p>"
    body = "".join(_split(sized, (0.0, 0.0, _WIDTH, _HEIGHT)))
    view = f'viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"'
    return f'<svg {view} role="img" aria-label="parameters by status">{body}</svg>'


def _key() -> str:
    parts = [f'<span style="background:{_COLORS[s]}"></span>{text}' for s, text in _MEANING.items()]
    return f'<p class="key">{"".join(parts)}</p>'


def _row(finding: Finding) -> str:
    place = escape(finding.path or "(root)")
    if finding.file:
        file = finding.file.replace("\\", "/").rsplit("/", 1)[-1]
        place += f"<br>{escape(file)}:{finding.line}"
    times = f" in {finding.count} modules" if finding.count > 1 else ""
    what = escape(finding.what or finding.cls)
    return (
        f'<tr><td class="{finding.severity}">{finding.severity}<br>{finding.rule}</td>'
        f"<td><code>{place}</code></td><td>{escape(finding.message)}: <code>{what}</code>{times}"
        f"<br>{escape(finding.suggestion)}</td></tr>"
    )


def _findings(report: PortabilityReport) -> str:
    if not report.findings:
        return "<p>Nothing to report.</p>"
    rows = "".join(map(_row, report.findings))
    return f"<table><tr><th>Rule</th><th>Where</th><th>What, and what to do</th></tr>{rows}</table>"


def _tree(report: PortabilityReport) -> str:
    children: dict[int, list[int]] = {}
    for i, node in enumerate(report.nodes):
        children.setdefault(node.parent, []).append(i)

    def draw(index: int, depth: int) -> str:
        node = report.nodes[index]
        name = node.path.rpartition(".")[2] or "(root)"
        dot = f'<span style="color:{_COLORS[node.status]}">●</span>'
        text = f"{dot} <code>{escape(name)}</code> {escape(node.cls)}"
        below = children.get(index, [])
        if not below or depth > 60:
            return f'<div class="leaf">{text}</div>'
        inner = "".join(draw(child, depth + 1) for child in below)
        opened = " open" if depth < 2 else ""
        return f"<details{opened}><summary>{text}</summary>{inner}</details>"

    return "".join(draw(i, 0) for i in children.get(-1, []))


def as_html(report: PortabilityReport) -> str:
    """The whole page, about 100 bytes for each module of the model."""
    title = f"{report.model}: portability to MLX"
    figures = (
        _coverage(report),
        (str(len(report.blockers)), "blockers"),
        (f"{sum(report.parameters.values()):,}", "parameters and buffers"),
        (_size(report.output_bytes), "converted"),
        (_size(report.peak_bytes), "memory at most"),
    )
    shown = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for value, name in figures)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="generator" content="torch2mlx">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><div class="figures">{shown}</div>'
        f"<h2>Parameters</h2>{_treemap(report)}{_key()}"
        f"<h2>Findings</h2>{_findings(report)}<h2>Modules</h2>{_tree(report)}</body></html>\n"
    )


def _coverage(report: PortabilityReport) -> tuple[str, str]:
    """(figure, what it is of)."""
    if report.coverage is None:
        return "unknown", "no types of layers"
    return f"{report.coverage:.1%}", f"of {report.total_layers} layers"
