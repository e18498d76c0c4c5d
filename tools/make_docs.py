"""`python -m tools.make_docs`: writes the parts of docs/ that are made from the registry."""

from __future__ import annotations

import re
from pathlib import Path

from torch2mlx import _core, registry
from torch2mlx.types import ModuleRecord
from torch2mlx.weights import recurrent, table
from torch2mlx.weights.actions import Drop, Move, entry_action

WEIGHTS = Path(__file__).parent.parent / "docs" / "weights.md"
ANALYZER = WEIGHTS.with_name("analyzer.md")
ANALYZER_HEAD = """# The analyzer

`analyze(model)` says what converting a model would meet: nothing is run, no weight is read, the
model may be on torch's meta device. Layers are looked up by class, base classes included; the
forward of every class, and the methods it calls, is read once from its source.

Errors are blockers. Item assignment and `+=` are none: MLX has both. `coverage` counts layers that
mlx.nn or a function of mlx.core covers; what is inside a layer (the linears of an attention)
counts with it; containers and classes with sub-modules are no layers.

The same report prints as text, `--json`, `--sarif FILE` (for editors) and `--html FILE`:
a page without scripts or network, with a treemap of parameters by status and the module tree.

| rule | severity | what it says | what to do |
| --- | --- | --- | --- |
"""
_PART = re.compile(r"(<!-- rules: .*? -->\n).*?(<!-- end of rules -->)", re.S)
_PROSE = {
    table.flat_norm: "over several dimensions: flattened to one, `a b -> (a b)`",
    table.attention: (
        "`in_proj_weight` (3E, E) and `in_proj_bias` in three: `query_proj`, `key_proj`, "
        "`value_proj`; `q_proj_weight` (E, kdim) and the like are renamed"
    ),
}


def _entry(name: str, action: object) -> str:
    if isinstance(action, Drop):
        return f"`{name}` dropped (sidecar): {action.reason}"
    if isinstance(action, Move) and action.layout:
        return f"`{name}`: `{action.layout}`"
    return f"`{name}`: {action}"


def _rule(spec: registry.LayerSpec) -> str:
    if callable(spec.weights):
        in_section = spec.weights.__module__ == recurrent.__name__
        return "see below" if in_section else _PROSE[spec.weights]
    parts = [_entry(name, entry_action(entry)) for name, entry in spec.weights.items()]
    if callable(spec.children):
        names = spec.children(ModuleRecord("", (), children=("0", "1")))
        parts.append(
            ", ".join(f"`{old}.` becomes `{new}.`" for old, new in names.items()) + ", ..."
        )
    elif spec.children:
        parts.append(", ".join(f"`{old}` becomes `{new}`" for old, new in spec.children.items()))
    return "; ".join(parts) or "as it is"


def rules_table() -> str:
    """The rules of all layers with weights, as a Markdown table."""
    lines = ["| torch | MLX | rule |", "| --- | --- | --- |"]
    for name, _ in table.ROWS:
        spec = registry.lookup(name)
        assert spec is not None
        if spec.transparent or name.startswith("torch.nn.modules."):
            continue
        short = name.removeprefix("torch.nn.")
        lines.append(f"| `{short}` | `{spec.mlx}` | {_rule(spec)} |")
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """docs/weights.md with its table as the registry is now."""
    return _PART.sub(lambda m: f"{m[1]}\n{rules_table()}\n{m[2]}", text)


def analyzer_page() -> str:
    """docs/analyzer.md: every rule of the analyzer."""
    rows = [
        f"| {name} | {severity} | {message} | {suggestion} |"
        for name, severity, message, suggestion in _core.rules()
    ]
    return ANALYZER_HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    WEIGHTS.write_text(updated(WEIGHTS.read_text()))
    ANALYZER.write_text(analyzer_page())
