"""Reports of ports: what changed and why, what to check, what is left; Markdown, HTML, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

PortResult = Any  # porter's, which uses this module

ADVICE = (
    "Arrays are computed when they are needed: `mx.eval` once per step, as written, is enough; "
    "printing or `.item()` computes too.",
    "`mx.compile` of the step makes it faster when its shapes stay the same and it prints nothing; "
    "give it `inputs` and `outputs` of the model's and the optimizer's state.",
    "Random numbers are others than torch's for the same seed; initial weights too. Convert the "
    "first weights with `torch2mlx.convert` to compare curves.",
    "Images are (N, H, W, C) between layers: `kit.to_last` turns them where they enter a network, "
    "`kit.to_first` where they leave it. `kit.channels_first` layers, which stand where that could "
    "not be followed, turn their data twice.",
    "A recurrent layer (`kit.layers.LSTM`) has both of torch's biases, `bias_ih` and `bias_hh`, so "
    "that an optimizer moves their sum as far as torch's does. `kit.files.load_state_dict` takes "
    "what `convert` wrote, where they are one; `load_weights` needs `convert(..., training=True)`.",
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1040px;padding:0 1rem;
color:#1d2733;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.figures{display:flex;gap:2rem}.figures b{display:block;font-size:1.6rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;
vertical-align:top;border-bottom:1px solid #dde3ea}code{font:13px ui-monospace,monospace;
overflow-wrap:anywhere}.left{color:#b3261e}pre{overflow:auto;background:#f5f7fa;padding:1rem}
.add{color:#116329}.del{color:#b3261e}
@media (prefers-color-scheme:dark){body{background:#14181d;color:#dbe2ea}td,th{border-color:#2c343d}
pre{background:#1c2229}.left,.del{color:#ff9086}.add{color:#7ee2a8}}
"""


def _kinds(result: PortResult) -> list[tuple[str, str, str, list[int]]]:
    """Changes of one kind together: what, why, what to check, on which lines."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for change in result.changes:
        found.setdefault((change.what, change.why, change.check), []).append(change.line)
    return [(*key, lines) for key, lines in found.items()]


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(set(numbers))[:8]))
    return shown + (", ..." if len(set(numbers)) > 8 else "")


def as_markdown(results: Sequence[PortResult]) -> str:
    """One section for each file."""
    parts = []
    for result in results:
        parts.append(f"# {result.path}\n\n{len(result.changes)} changes, ")
        parts.append(f"{len(result.unsupported)} places left as they are.\n")
        if result.unsupported:
            parts.append("\n## Left for you\n\n")
            parts += [f"- line {u.line}: {u.reason}\n" for u in result.unsupported]
        if result.questions:
            parts.append("\n## Questions\n\n")
            parts += [f"- line {q.line}: {q}\n" for q in result.questions]
        if result.changes:
            parts.append(
                "\n## Changed\n\n| what | why | to check | lines |\n| --- | --- | --- | --- |\n"
            )
            for what, why, check, lines in _kinds(result):
                cells = (f"`{what}`", why, check, _lines(lines))
                parts.append(f"| {' | '.join(c.replace('|', '/') for c in cells)} |\n")
        parts.append("\n")
    if any(result.changes for result in results):
        parts.append("## Good to know\n\n" + "".join(f"- {line}\n" for line in ADVICE))
    return "".join(parts)


def as_data(results: Sequence[PortResult]) -> dict[str, Any]:
    """All changes and what is left, by file, ready for JSON."""
    files = [
        {
            "path": result.path,
            "changes": [vars(c) for c in result.changes],
            "unsupported": [
                {"line": u.line, "reason": u.reason, "code": str(u.code), "where": u.where}
                for u in result.unsupported
            ],
            "questions": [question.to_dict() for question in result.questions],
            "verified": None if result.verified is None else result.verified.to_dict(),
        }
        for result in results
    ]
    return {"files": files, "advice": list(ADVICE)}


def _diff(result: PortResult) -> str:
    marks = {"+": "add", "-": "del"}
    shown = []
    for line in result.diff().splitlines():
        kind = marks.get(line[:1], "")
        shown.append(f'<span class="{kind}">{escape(line)}</span>' if kind else escape(line))
    return "<pre>" + "\n".join(shown) + "</pre>"


def _section(result: PortResult) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(what)}</code></td><td>{escape(why)}</td><td>{escape(check)}</td>"
        f"<td>{_lines(lines)}</td></tr>"
        for what, why, check, lines in _kinds(result)
    )
    left = "".join(f"<li>line {u.line}: {escape(u.reason)}</li>" for u in result.unsupported)
    left += "".join(f"<li>line {q.line}: {escape(str(q))}</li>" for q in result.questions)
    return (
        f"<h2>{escape(result.path)}</h2>"
        f'<div class="figures"><div><b>{len(result.changes)}</b>changes</div>'
        f"<div><b>{len(result.unsupported)}</b>left for you</div></div>"
        + (f'<ul class="left">{left}</ul>' if left else "")
        + f"<table><tr><th>what</th><th>why</th><th>to check</th><th>lines</th></tr>{rows}</table>"
        + f"<details><summary>difference</summary>{_diff(result)}</details>"
    )


def as_html(results: Sequence[PortResult]) -> str:
    """One self-contained page."""
    body = "".join(_section(result) for result in results)
    advice = "".join(f"<li>{escape(line)}</li>" for line in ADVICE)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Ported to MLX</title>'
        f"<style>{_STYLE}</style><h1>Ported to MLX</h1>{body}<h2>Good to know</h2><ul>{advice}</ul>"
        "</html>\n"
    )
