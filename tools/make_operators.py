"""`python -m tools.make_operators`: writes docs/operators.md from tests/export/ledger.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.export.ledger import Entry

ROOT = Path(__file__).parent.parent
LEDGER, PAGE = ROOT / "tests" / "export" / "ledger.json", ROOT / "docs" / "operators.md"
HEAD = """# Operators

Written by `./dev ledger`: the samples of torch's own operator database (OpInfo), each exported,
translated and run in MLX, in the dtypes float32, float16, bfloat16, int64, bool and complex64 where
torch has them. `difference` is the largest of the float32 samples, over max(1, largest value);
`gradient` the same of the gradients in all inputs, of operators that have any.

* **pass**: every sample that was translated agrees (2e-5 in float32, 1e-2 and 2e-2 in half formats,
  integers exactly); where some samples are refused, the reason stands beside. Of operators that
  draw random numbers, or leave memory as it is, shapes are compared.
* **refused**: translating is an error that names the operator and the line; nothing is written.
* **untraced**: torch.export cannot trace the samples (they are not functions of tensors alone), or
  MLX has no such thing to compare.

{counts}

| operator | status | samples | difference | gradient | what does not pass |
| --- | --- | --- | --- | --- | --- |
"""


def entries() -> list[Entry]:
    """What the last run of the ledger found."""
    return [Entry(**entry) for entry in json.loads(LEDGER.read_text())]


def told(found: list[Entry]) -> str:
    """How many operators have which status."""
    counts: dict[str, int] = {}
    for entry in found:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    counts["with gradients compared"] = sum(bool(entry.gradients) for entry in found)
    shown = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    return f"{len(found)} operators: {shown}"


def page(found: list[Entry]) -> str:
    """docs/operators.md."""
    lines = [HEAD.format(counts=f"{told(found)}.")]
    lines += [_row(entry) for entry in found]
    return "".join(lines)


def _row(entry: Entry) -> str:
    samples = sum(entry.passed.values())
    gap = f"{entry.largest:.0e}" if entry.passed.get("float32") else ""
    reasons: list[Any] = [f"{dtype}: {why}" for dtype, why in entry.wrong.items()]
    reasons += sorted(set(entry.expected.values()))
    reasons += [f"gradient: {why}" for why in (entry.gradient_wrong, entry.gradient_open) if why]
    slope = f"{entry.steepest:.0e}" if entry.gradients else ""
    reasons += sorted(entry.refused)
    text = "; ".join(dict.fromkeys(" ".join(r.replace("|", "/").split()) for r in reasons))
    return f"| `{entry.name}` | {entry.status} | {samples} | {gap} | {slope} | {text[:220]} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(entries()))
    print(told(entries()))
