"""`group["params"]` of an optimizer of one group: the parameters of the module that it was given.

optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for group in optimizer.param_groups:            for group in optimizer.param_groups:
    for p in group["params"]:             ->        for p in net.parameters():
        p.data.clamp_(-1, 1)                            p.data.clamp_(-1, 1)

An optimizer of MLX holds no parameters, so where it is not seen which module's these are, the
places are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, children, everything

_GROUPS = "param_groups"
_WHY = (
    'group["params"]: an optimizer of MLX holds no parameters, and whose these are is not seen: '
    "loop over those of the module"
)


@dataclass(frozen=True)
class _Made:
    """Where an optimizer is made: class and function around, and of which module's parameters."""

    owner: str
    function: Any
    module: str


class GroupParameters(cst.CSTTransformer):
    """Rewrites loops over the parameters of groups."""

    def __init__(self, names: Names, report: Report) -> None:
        super().__init__()
        self._names, self._report = names, report
        self._made: dict[str, list[_Made]] = {}
        self._loops: list[tuple[str, str]] = []  # name of a group, its optimizer
        self._classes: list[str] = []
        self._functions: list[Any] = []
        self._statement: Any = None
        self._held: dict[Any, set[str]] = {}

    def visit_Module(self, node: cst.Module) -> None:
        self._find(node, "", None)

    def _find(self, node: Any, owner: str, function: Any) -> None:
        """Notes each place that gives an optimizer to a name."""
        if isinstance(node, cst.ClassDef):
            owner = node.name.value
        elif isinstance(node, cst.FunctionDef):
            function = node
        elif isinstance(node, cst.Assign):
            for target in node.targets:
                name = dotted(target.target)
                made = _Made(owner if name.startswith("self.") else "", function, "")
                if self._is_optimizer(node.value):
                    made = _Made(made.owner, function, _given(node.value))
                    self._made.setdefault(name, []).append(made)
                elif name in self._made:
                    self._made[name].append(made)
        elif isinstance(node, cst.Call) and dotted(node.func).endswith(".add_param_group"):
            name = dotted(node.func).removesuffix(".add_param_group")
            self._made.setdefault(name, []).append(_Made("", function, ""))
        for child in children(node):
            self._find(child, owner, function)

    def _is_optimizer(self, value: Any) -> bool:
        return isinstance(value, cst.Call) and self._names.of(value.func).startswith("torch.optim.")

    def _module_of(self, optimizer: str) -> str:
        """The module whose parameters an optimizer has here; "" where that is not seen."""
        made = self._made.get(optimizer, [])
        if len({(m.owner, m.module) for m in made}) != 1 or not made[0].module:
            return ""
        first, here = made[0], self._functions[-1] if self._functions else None
        if first.owner:  # attributes, of one class
            ours = self._classes and self._classes[-1] == first.owner
            return first.module if ours and first.module.startswith("self") else ""
        if here is first.function:
            return first.module
        roots = {optimizer.partition(".")[0], first.module.partition(".")[0]}
        seen = first.function is None and not roots & self._own(here) and "self" not in roots
        return first.module if seen else ""

    def _own(self, function: Any) -> set[str]:
        """Names that a function has of its own."""
        if function not in self._held:
            params = {n.name.value for n in everything(function) if isinstance(n, cst.Param)}
            self._held[function] = params | set(Scanner().stores(function.body))
        return self._held[function]

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._classes.append(node.name.value)

    def leave_ClassDef(self, original_node: Any, updated_node: Any) -> Any:
        self._classes.pop()
        return updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._functions.append(node)

    def leave_FunctionDef(self, original_node: Any, updated_node: Any) -> Any:
        self._functions.pop()
        return updated_node

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._statement = node

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        self._statement = None
        return updated_node

    def visit_For(self, node: cst.For) -> None:
        self._loops += _loop(node)

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> cst.For:
        self._loops = self._loops[: len(self._loops) - len(list(_loop(original_node)))]
        return updated_node

    def visit_GeneratorExp(self, node: cst.GeneratorExp) -> None:
        self._loops += _inner(node.for_in)

    def leave_GeneratorExp(self, original_node: Any, updated_node: Any) -> Any:
        return self._left(original_node, updated_node)

    def visit_ListComp(self, node: cst.ListComp) -> None:
        self._loops += _inner(node.for_in)

    def leave_ListComp(self, original_node: Any, updated_node: Any) -> Any:
        return self._left(original_node, updated_node)

    def _left(self, original: Any, updated: Any) -> Any:
        self._loops = self._loops[: len(self._loops) - len(list(_inner(original.for_in)))]
        return updated

    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> Any:
        if _key(original_node) != "params" or not isinstance(original_node.value, cst.Name):
            return updated_node
        name = original_node.value.value
        optimizer = next((o for group, o in reversed(self._loops) if group == name), None)
        if optimizer is None:
            return updated_node
        module = self._module_of(optimizer)
        place = self._statement or original_node
        if not module:
            self._report.refuse(place, _WHY)
            return updated_node
        self._report.change(place, 'group["params"]', f"the parameters of {module}")
        return cst.parse_expression(f"{module}.parameters()")


def _given(call: Any) -> str:
    """net of `SGD(net.parameters(), lr=0.1)`; "" of anything else."""
    first = [a for i, a in enumerate(call.args) if (i == 0 and a.keyword is None)]
    first += [a for a in call.args if a.keyword is not None and a.keyword.value == "params"]
    value: Any = first[0].value if first and not first[0].star else None
    plain = isinstance(value, cst.Call) and not value.args and len(list(calls(value))) == 1
    name = dotted(value.func) if plain else ""
    return name.removesuffix(".parameters") if name.endswith(".parameters") else ""


def _key(node: cst.Subscript) -> str:
    """The word of `group["word"]`."""
    index = node.slice[0].slice if len(node.slice) == 1 else None
    word = index.value if isinstance(index, cst.Index) else None
    return str(word.evaluated_value) if isinstance(word, cst.SimpleString) else ""


def _loop(node: Any) -> Iterator[tuple[str, str]]:
    """(name, optimizer) of `for name in optimizer.param_groups`."""
    groups = dotted(node.iter)
    if isinstance(node.target, cst.Name) and groups.endswith(f".{_GROUPS}"):
        yield node.target.value, groups.removesuffix(f".{_GROUPS}")


def _inner(node: Any) -> Iterator[tuple[str, str]]:
    """The same of all loops of a comprehension."""
    while node is not None:
        yield from _loop(node)
        node = node.inner_for_in
