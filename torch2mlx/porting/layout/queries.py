"""Questions about a file's source that the plan of its layout asks."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.layout.tables import ASKED, OF_LAYERS, RIGID
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import of_kinds, walk

#: Ways to modules that are not followed.
_HIDDEN = ("children", "named_children", "_modules", "get_submodule", "_forward_hooks")


def has_images(module: Any, names: Names) -> bool:
    for node in of_kinds(module, cst.Attribute, cst.Name):
        full = names.of(node)
        if full.startswith("torch.nn.") and full.rpartition(".")[2] in RIGID:
            return True
    return False


def hides(module: Any) -> bool:
    """Whether modules are called that were not found by name."""
    for node in of_kinds(module, cst.Attribute, cst.For):
        if isinstance(node, cst.Attribute) and node.attr.value in _HIDDEN:
            return True
        if isinstance(node, cst.For) and _asks_modules(node.iter):
            bound = {n.value for n in walk(node.target) if isinstance(n, cst.Name)}
            for part in walk(node.body):
                if isinstance(part, cst.Call) and dotted(part.func) in bound:
                    return True
    return False


def _asks_modules(node: Any) -> bool:
    asked = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)
    return asked and node.func.attr.value in ("modules", "named_modules")


def attributes(module: Any) -> list[tuple[cst.CSTNode, str]]:
    """Attributes that are read and not merely asked something: node and name."""
    asked: set[cst.CSTNode] = set()
    found: list[tuple[cst.CSTNode, str]] = []
    for node in of_kinds(module, cst.AssignTarget, cst.AnnAssign, cst.Attribute, cst.Call):
        if isinstance(node, cst.Call) and dotted(node.func).startswith(OF_LAYERS):
            asked.add(node.args[0].value)
        if isinstance(node, (cst.AssignTarget, cst.AnnAssign)):
            asked |= {part for part in _assigned(node.target)}
        if isinstance(node, cst.Attribute):
            if node.attr.value in ASKED and isinstance(node.value, cst.Attribute):
                asked.add(node.value)
            if node not in asked:
                found.append((node, node.attr.value))
    return found


def _assigned(target: Any) -> list[Any]:
    """The places that an assignment writes to, in tuples too."""
    if isinstance(target, (cst.Tuple, cst.List)):
        return [part for element in target.elements for part in _assigned(element.value)]
    return [target]


def compared(module: Any, names: Names) -> set[cst.CSTNode]:
    """Layers' classes that modules are compared with: what turns its data is one of these too."""
    asked: list[Any] = []
    for node in of_kinds(module, cst.Call, cst.Annotation, cst.Comparison):
        if isinstance(node, cst.Call) and dotted(node.func) in ("isinstance", "issubclass"):
            asked += [a.value for a in node.args[1:]]
        elif isinstance(node, cst.Annotation):
            asked.append(node.annotation)
        elif isinstance(node, cst.Comparison) and isinstance(node.left, cst.Call):
            of_type = dotted(node.left.func) == "type"
            asked += [c.comparator for c in node.comparisons] if of_type else []
    return {part for one in asked for part in walk(one) if names.of(part)}


def method(node: cst.ClassDef, name: str) -> Any:
    for part in node.body.body:
        if isinstance(part, cst.FunctionDef) and part.name.value == name:
            return part
    return None


def parameters(node: cst.FunctionDef) -> list[str]:
    return [p.name.value for p in (*node.params.params, *node.params.kwonly_params)][1:]
