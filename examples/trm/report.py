"""A page with the curves of runs, and their figures."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from examples.trm.logs import records

_PAGE = """<!doctype html><meta charset="utf-8"><title>TinyRecursiveModels in MLX</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
 padding: 0 1rem; color: #222 }} table {{ border-collapse: collapse }}
 td, th {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
 td:first-child, th:first-child {{ text-align: left }} img {{ max-width: 100% }}</style>
<h1>TinyRecursiveModels in MLX</h1>
<p>Trained from the same weights on the same batches; draws for exploration differ.</p>
{pictures}
<table><tr><th>run</th><th>steps</th><th>cells right</th><th>puzzles solved</th>
<th>seconds</th></tr>
{rows}</table>
"""


def _picture(name: str, runs: dict[str, Path]) -> str:
    """Loss and solved puzzles over steps, as an image in the page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    for label, folder in runs.items():
        shown, held = records(folder, "train"), records(folder, "test")
        losses = [r for r in shown if r["steps"]]  # of calls in which something halted
        left.plot([r["step"] for r in losses], [r["lm_loss"] for r in losses], label=label)
        solved = [r["exact_accuracy"] for r in held]
        right.plot([r["step"] for r in held], solved, label=label, marker="o", ms=3)
    left.set(title=f"{name}: loss of a puzzle, training", xlabel="step", yscale="log")
    right.set(title=f"{name}: held-out puzzles solved", xlabel="step", ylim=(-0.03, 1.03))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    held_image = io.BytesIO()
    figure.savefig(held_image, format="png", dpi=110)
    pyplot.close(figure)
    data = base64.b64encode(held_image.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'


def _row(label: str, last: dict[str, Any]) -> str:
    share = [f"{100 * last[k]:.1f} %" for k in ("accuracy", "exact_accuracy")]
    cells = [html.escape(label), str(last["step"]), *share, f"{last['seconds']:.0f}"]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def write(path: Path, sets: dict[str, dict[str, Path]]) -> None:
    """Writes the page: for every puzzle set, its runs by name."""
    pictures = "\n".join(_picture(name, runs) for name, runs in sets.items())
    rows = [
        _row(f"{name}, {label}", records(folder, "test")[-1])
        for name, runs in sets.items()
        for label, folder in runs.items()
    ]
    path.write_text(_PAGE.format(pictures=pictures, rows="\n".join(rows)), encoding="utf-8")
