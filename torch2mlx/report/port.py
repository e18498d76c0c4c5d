"""Reports of ports: what changed and why, what to check, what is left; Markdown, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PortResult = Any  # porter's, which uses this module

ADVICE = (
    "Arrays are computed when they are needed: `mx.eval` once per step, as written, is enough; "
    "printing or `.item()` computes too.",
    "A step under `kit.compiled` is traced by `mx.compile`: what you add to it has to compute and "
    "nothing else; what prints, reads numbers or keeps state belongs behind its call.",
    "Random numbers are others than torch's for the same seed; initial weights too. Convert the "
    "first weights with `torch2mlx.convert` to compare curves.",
    "Images are (N, H, W, C) between layers: `kit.to_last` turns them where they enter a network, "
    "`kit.to_first` where they leave it. `kit.channels_first` layers, which stand where that could "
    "not be followed, turn their data twice.",
    "A recurrent layer (`kit.layers.LSTM`) has both of torch's biases, `bias_ih` and `bias_hh`, so "
    "that an optimizer moves their sum as far as torch's does. `kit.files.load_state_dict` takes "
    "what `convert` wrote too, where they are one and layouts are MLX's; `load_weights` needs "
    "`convert(..., training=True)`.",
)


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
        if result.seen:
            parts.append("\n## Resting on a run\n\n")
            parts += [f"- line {s.line}: {s}\n" for s in result.seen]
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
            "seen": [vars(seen) for seen in result.seen],
            "verified": None if result.verified is None else result.verified.to_dict(),
        }
        for result in results
    ]
    return {"files": files, "advice": list(ADVICE)}
