"""`python -m tools.make_docs`: writes the parts of docs/ that are made from the registry."""

from __future__ import annotations

import re
from pathlib import Path

from tests.simple_ops import difference
from tools.make_operators import entries as ledger
from torch2mlx import _core, registry
from torch2mlx.catalog.layers.attention import projections
from torch2mlx.catalog.layers.entry import BUILTIN
from torch2mlx.catalog.layers.norm import flat
from torch2mlx.catalog.weights import recurrent
from torch2mlx.catalog.weights.actions import Drop, Move, entry_action
from torch2mlx.op_mapping import Op, known_ops
from torch2mlx.types import ModuleRecord

WEIGHTS = Path(__file__).parent.parent / "docs" / "weights.md"
ANALYZER = WEIGHTS.with_name("analyzer.md")
OPERATORS = WEIGHTS.with_name("op-mapping.md")
GUIDE = WEIGHTS.with_name("mapping-guide.md")
_ROOT = WEIGHTS.parent.parent
KIT_TESTS = _ROOT / "tests" / "kit"
PROCESSES = _ROOT / "tests" / "porting" / "distributed" / "scripts"
OPERATORS_HEAD = """# torch functions and methods in MLX

Every row of `torch2mlx.op_mapping`; a method is the function of its name. `run by`: where values
were compared with torch's: a row of the [guide](mapping-guide.md), a call with equal arguments,
the grid of [layers](support-matrix.md), the tests of the kit, scripts of four processes over gloo
and over MLX's ring ([port](port.md#several-machines)), torch's own samples of the operator
through translate (how many dtypes, the largest difference); a dash: both names exist, which a test
checks, and no more is claimed.

| torch | MLX | status | mind | run by |
| --- | --- | --- | --- | --- |
"""
ANALYZER_HEAD = """# The analyzer

`analyze(model)` says what converting a model would meet: forward is not run, no weight is read, the
model may be on torch's meta device. Layers are looked up by class, base classes included.
`analyze("file.py:function")` calls the function for the model; a file with one function, or one
module, needs no name; of a folder the config.json is enough.

The source of forward is followed from the root, as values: which expressions are tensors, which are
numbers read from one, which are known without any. Attributes are those of the live model; methods,
helper functions, properties and the forwards of sub-modules are followed where they stand; a class
that nothing calls is looked at alone. Where Python would have to know a tensor's values (in `if`,
`while`, `assert`, `and`, conditions of comprehensions; `int()`, `.item()`, bounds of slices,
`range`), a finding names the file and the line: there `translate` would refuse, or read the value.
Shapes, dtypes, `None`, `isinstance` and options are no findings, nor is what does not run while a
program is traced (`if not torch.compiler.is_compiling():`). A function that MLX has, and translate
lacks, is T2M114.

A file whose layers have no types (weights without a model) says so: `coverage` is None then.

Errors are blockers. Item assignment and `+=` are none: MLX has both. `coverage` counts layers that
mlx.nn or a function of mlx.core covers; what is inside a layer (the linears of an attention)
counts with it; containers and classes with sub-modules are no layers.

The same report prints as text, or with `--format json|sarif|html`; `--sarif FILE` (for editors)
and `--html FILE` write it to a file too. The page ([pages.md](pages.md)) begins with what may
differ and has a treemap of parameters by status, the findings and the module tree. SARIF names
files from the root of the repository on that the working folder is in. `--fail-on blocker` (or
`warning`) makes the exit code 1 where there
is one, or where no type of a layer is known; in Python `report.failure("blocker")` is the sentence
to fail with, or None.

| rule | severity | what it says | what to do |
| --- | --- | --- | --- |
"""
_PART = re.compile(r"(<!-- rules: .*? -->\n).*?(<!-- end of rules -->)", re.S)
_PROSE = {
    flat: "over several dimensions: flattened to one, `a b -> (a b)`",
    projections: (
        "`in_proj_weight` (3E, E) and `in_proj_bias` in three: `query_proj`, `key_proj`, "
        "`value_proj`; `q_proj_weight` (E, kdim) and the like are renamed"
    ),
}


def _entry(name: str, action: object) -> str:
    if isinstance(action, Drop):
        return f"`{name}` dropped (sidecar): {action.reason}"
    if isinstance(action, Move) and action.layout:
        return f"`{name}`: `{action.layout}`"
    if isinstance(action, Move):
        return f"`{name}` becomes `{action.to}`"
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


def _stands(spec: registry.LayerSpec) -> str:
    """What stands for a layer, and what else of MLX its tensors fit."""
    names = dict.fromkeys(name for name in (spec.mlx, spec.native) if name)
    plain = (n.replace("torch2mlx.kit", "kit").removeprefix("builtins.") for n in names)
    return ", ".join(f"`{name}`" for name in plain)


def rules_table() -> str:
    """The rules of all layers with weights, as a Markdown table."""
    lines = ["| torch | MLX | rule |", "| --- | --- | --- |"]
    for name, spec in BUILTIN.items():
        kind = (spec.mlx or "").rpartition(".")
        of_the_kit = kind[0].startswith("torch2mlx.kit") and kind[2][:1].isupper()
        told = spec.weights or spec.tensors or of_the_kit or kind[0] == "builtins" or spec.container
        if name.startswith("torch.nn.modules.") or not told or "losses." in kind[0]:
            continue
        short = name.removeprefix("torch.nn.")
        lines.append(f"| `{short}` | {_stands(spec)} | {_rule(spec)} |")
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


def evidence(op: Op) -> str:
    """What a test has run of a row: the guide, the grid of layers, the kit's own tests."""
    if op.mlx.startswith("torch2mlx.kit.distributed."):
        return _in_processes(op)
    call = re.compile(rf"\b{re.escape(op.torch.rsplit('.', 1)[1])}\(")
    guide = (line.split("|")[1] for line in GUIDE.read_text().splitlines() if line[:2] == "| ")
    if any(call.search(cell) for cell in guide):
        return "guide"
    if difference(op) is not None:
        return "calls"
    name = op.mlx.rsplit(".", 1)[-1]
    if op.status != "kit":
        return ""
    paths = (path for spec in BUILTIN.values() for path in (spec.mlx, spec.general) if path)
    if name in {path.rpartition(".")[2].removesuffix("_layer").lower() for path in paths}:
        return "layers"
    text = "".join(path.read_text() for path in sorted(KIT_TESTS.glob("*.py")))
    return "kit" if re.search(rf"\b{name}\b", text) else ""


def _in_processes(op: Op) -> str:
    """What a test has run of a row for several processes."""
    name = op.mlx.rpartition(".")[2]
    for told, folder in (("processes", PROCESSES), ("kit", KIT_TESTS)):
        text = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
        if op.torch.rpartition(".")[2] == name and re.search(rf"\b{name}\b", text):
            return told
    return ""


def _measured(op: Op) -> str:
    """All that was run of a row."""
    return ", ".join(part for part in (evidence(op), _ledger(op)) if part) or "-"


def _ledger(op: Op) -> str:
    """What torch's samples of the operator of that name found, through translate."""
    name = op.torch.removeprefix("torch.").removeprefix("Tensor.")
    entry = {e.name: e for e in ledger()}.get(name)
    if entry is None or entry.status != "pass":
        return ""
    return f"[samples](operators.md): {len(entry.passed)} dtypes, {entry.largest:.0e}"


def operators_page() -> str:
    """docs/op-mapping.md: every row of op_mapping and what has run of it."""
    shown = {"direct": "MLX", "kit": "kit", "data_dependent": "reads a count", "none": "missing"}
    rows = [
        f"| `{op.torch}` | {f'`{op.mlx}`' if op.mlx else ''} | {shown[op.status]} | {op.note} | "
        f"{_measured(op)} |"
        for op in known_ops()
    ]
    return OPERATORS_HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    OPERATORS.write_text(operators_page())
    WEIGHTS.write_text(updated(WEIGHTS.read_text()))
    ANALYZER.write_text(analyzer_page())
