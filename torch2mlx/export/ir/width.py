"""Numbers that no Apple GPU has: float64 within a model, integers of 64 bits that are scattered.

float64 that a model uses inside alone (a rotary table, a mean) is lowered as float32, where the
driver finds that the answers on the example inputs stay within the tolerance; inputs, weights and
results keep their dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.ir.nodes import Node, Program, operands

#: What writes to items at indices. Adding complex numbers is the one of 8 bytes that Metal has.
_SCATTERS = (
    *("assign", "accumulate", "index_add", "scatter", "scatter_add", "scatter_reduce"),
    *("masked_rows_put", "masked_scatter"),
)
_ADDS = ("accumulate", "index_add", "scatter_add")
NARROWED = (
    "float64 within the model is computed in float32, since no Apple GPU has it: on the example "
    "inputs the answers are within the tolerance; longer sums and larger positions differ more"
)
STAYS = (
    "float64 within the model stays, since in float32 its answers on the example inputs differ "
    "more than allowed: run it with mx.set_default_device(mx.cpu), no Apple GPU has float64"
)


@dataclass
class Narrowing:
    """Whether float64 within the model is to become float32, and whether there was any."""

    wanted: bool
    done: bool = False

    def decide(self, traced: Any) -> bool:
        """Whether a traced program is lowered narrow."""
        self.done = self.wanted and float64_within(traced.program)
        return self.done


def float64_within(program: Any) -> bool:
    """Whether nodes of an exported program are float64, and no argument, weight or result is."""
    nodes = list(program.graph.nodes)
    specs = program.graph_signature.input_specs
    constants = {spec.arg.name for spec in specs if _is_constant(spec)}
    results = [value for node in nodes if node.op == "output" for value in node.all_input_nodes]
    given = [n for n in nodes if n.op == "placeholder" and n.name not in constants]
    if any(map(_is_wide, (*given, *results))):
        return False
    return any(map(_is_wide, nodes))


def _is_wide(node: Any) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else (value,)
    return any(str(getattr(one, "dtype", "")) == "torch.float64" for one in values)


def _is_constant(spec: Any) -> bool:
    """Whether an input of a program is an array of the model's that torch does not save."""
    kind = spec.kind.name
    return kind == "CONSTANT_TENSOR" or (kind == "BUFFER" and spec.persistent is False)


def scattered(program: Program) -> Iterator[str]:
    """What is scattered and has 8 bytes, which Metal has no kernel for: a note for each line."""
    told = dict.fromkeys(_scatter(node) for p in _programs(program) for node in p.nodes)
    yield from (note for note in told if note)


def _programs(program: Program) -> Iterator[Program]:
    yield program
    for function in program.functions:
        yield from _programs(function.program)


def _scatter(node: Node) -> str | None:
    group, _, name = node.op.rpartition(".")
    if group != "kit.indexing" or name not in _SCATTERS or not node.is_array:
        return None
    kinds = ("int64", "uint64") if name in _ADDS else ("int64", "uint64", "complex64")
    if node.dtype not in kinds or not _indexed(node, name):
        return None
    where = f" of {node.line}" if node.line else ""
    return (
        f"T2M115 {node.op}{where}: no Apple GPU scatters {node.dtype}: cast it to "
        f"{'int32' if 'int' in node.dtype else 'two float32 arrays'}, or run it on mx.cpu"
    )


def _indexed(node: Node, name: str) -> bool:
    """Whether arrays are among the indices; slices alone are no scatter."""
    if name not in ("assign", "accumulate"):
        return True
    _, *rest = operands(node)
    return any(n.is_array and n.ndim and "float" not in n.dtype for n in rest[:-1])
