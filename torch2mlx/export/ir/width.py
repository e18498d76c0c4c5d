"""Numbers that no Apple GPU has: float64 within a model.

float64 that a model uses inside alone (a rotary table, a mean) is lowered as float32, where the
driver finds that the answers on the example inputs stay within the tolerance; inputs, weights and
results keep their dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
