"""`a.weight = b.weight`: one parameter under two names."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.requires_grad import small
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk

_WHY = "a parameter under two names: kit.tying.tie(root, alias, name)"


def is_tie(at: Place, made: cst.Assign) -> bool:
    """Whether an assignment gives a layer the parameter of another module."""
    target, value = made.targets[0].target, made.value
    if not _is_weight(target) or not isinstance(value, cst.Attribute):
        return False
    return _is_weight(value) or value.attr.value in at.file.trained_names


def tied(at: Place, original: cst.Assign, updated: cst.Assign) -> Any:
    """The two are tied, in the module that has both."""
    alias, name = dotted(original.targets[0].target), dotted(original.value)
    root, _, rest = alias.partition(".")
    other, _, kept = name.partition(".")
    if rest and root == other and kept:
        at.change(original, "weight", "one parameter under two names: its gradients are added")
        return small(f'kit.tying.tie({root}, "{rest}", "{kept}")')
    target: Any = updated.targets[0].target
    value: Any = updated.value
    attributes = isinstance(target, cst.Attribute) and isinstance(value, cst.Attribute)
    both = "self" if at.in_module() and _of_self(at, original) else _root(at, original)
    if both and attributes:
        at.change(original, "weight", "one parameter under two names: its gradients are added")
        places = (f'{code(n.value)}, "{n.attr.value}"' for n in (target, value))
        return small(f"kit.tying.tie_layers({both}, {', '.join(places)})")
    at.refuse(original, _WHY)
    return small(f'raise NotImplementedError("{alias or code(target)}: {_WHY}")')


def _root(at: Place, made: cst.Assign) -> str:
    """The module that both places of a tie are reached from, `net[0].weight = net[2].weight`."""
    nodes: list[Any] = [made.targets[0].target, made.value]
    for i, node in enumerate(nodes):
        while isinstance(node, (cst.Attribute, cst.Subscript)):
            node = node.value
        nodes[i] = node
    names = {dotted(node) for node in nodes}
    module = at.type_of(nodes[0]).kind in ("module", "modules")
    return names.pop() if len(names) == 1 and module else ""


def _of_self(at: Place, made: cst.Assign) -> bool:
    """Whether the layers of a tie are parts of the module whose method ties them."""
    method = at.bodies[-1] if at.bodies else None
    if method is None or [p.name.value for p in method.params.params[:1]] != ["self"]:
        return False
    nodes = (made.targets[0].target, made.value)
    names = {n.value for node in nodes for n in _heads(node)}
    given = {p.name.value for p in walk(method.params) if isinstance(p, cst.Param)} - {"self"}
    own = {"self"}
    for _ in range(3):
        for node in walk(method.body):
            if isinstance(node, (cst.Assign, cst.For)):
                over = node.iter if isinstance(node, cst.For) else node.value
                if {n.value for n in _heads(over)} & own:
                    targets = [node.target] if isinstance(node, cst.For) else node.targets
                    own |= {n.value for t in targets for n in walk(t) if isinstance(n, cst.Name)}
    return names <= own - given or names == {"self"}


def _heads(node: Any) -> list[cst.Name]:
    """The names that an expression begins with, and those in its indices and calls."""
    attributes = {n.attr for n in walk(node) if isinstance(n, cst.Attribute)}
    plain = [n for n in walk(node) if isinstance(n, cst.Name) and n not in attributes]
    return [n for n in plain if n.value not in ("getattr", "range", "len", "zip", "enumerate")]


def _is_weight(node: Any) -> bool:
    """Whether an expression is the weight or bias of a module."""
    return isinstance(node, cst.Attribute) and node.attr.value in ("weight", "bias")
