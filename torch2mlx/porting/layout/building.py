"""Expressions that make modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.members import Run, item_of, made_again, makes, member_of, merged
from torch2mlx.porting.layout.tables import FLEXIBLE, ITSELF, RIGID
from torch2mlx.porting.layout.values import NONE, OTHER, Member
from torch2mlx.porting.types.layers import ITEMWISE


@makes(cst.Name)
def _name(run: Run, node: cst.Name, env: Mapping[str, Member]) -> Member:
    name = node.value
    if name == "None":
        return NONE
    if name in env:
        return env[name]
    full = run.names.of(node)
    if full:
        return _reference(run, full, node)
    if name in run.names.classes:
        return Member("class", name) if run.is_module(name) else OTHER
    if name in run.names.functions and name not in run.several:
        found = run.names.functions[name]
        return Member("function", site=found, node=found)
    return OTHER


def _reference(run: Run, full: str, node: Any) -> Member:
    named = full.startswith("torch.nn.") and full.count(".") == 2 and full[9:10].isupper()
    if not named:
        return OTHER
    run.members.visited.setdefault(node, full[9:])
    return Member("class", full[9:], node)


@makes(cst.Attribute)
def _attribute(run: Run, node: cst.Attribute, env: Mapping[str, Member]) -> Member:
    full = run.names.of(node)
    if full:
        return _reference(run, full, node)
    owner = member_of(run, node.value, env)
    if owner.kind in ("self", "own"):
        found = run.members.held.get(owner.name, {}).get(node.attr.value)
        if found is not None:
            run.members.understood.add(node)
            return found
    return OTHER


@makes(cst.List, cst.Tuple)
def _list(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    items: list[Member] = []
    for element in node.elements:
        value = member_of(run, element.value, env)
        starred = isinstance(element, cst.StarredElement)
        items += value.items if starred and value.kind == "list" else (value,)
    return Member("list", items=tuple(items))


@makes(cst.Dict)
def _dict(run: Run, node: cst.Dict, env: Mapping[str, Member]) -> Member:
    return Member("list", items=tuple(member_of(run, e.value, env) for e in node.elements))


@makes(cst.IfExp)
def _if_exp(run: Run, node: cst.IfExp, env: Mapping[str, Member]) -> Member:
    return merged(member_of(run, node.body, env), member_of(run, node.orelse, env))


@makes(cst.BinaryOperation)
def _binary_operation(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    left, right = member_of(run, node.left, env), member_of(run, node.right, env)
    if left.kind == right.kind == "list":
        return Member("list", items=(*left.items, *right.items))
    if left.kind == "list" and isinstance(node.operator, cst.Multiply):
        return Member("list", items=tuple(map(made_again, left.items)))
    run.members.leak(left)
    run.members.leak(right)
    return OTHER


@makes(cst.Comparison)
def _comparison(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    member_of(run, node.left, env)  # whether there is one
    for part in node.comparisons:
        member_of(run, part.comparator, env)
    return OTHER


@makes(cst.UnaryOperation)
def _unary_operation(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    member_of(run, node.expression, env)
    return OTHER


@makes(cst.BooleanOperation)
def _boolean_operation(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    return merged(member_of(run, node.left, env), member_of(run, node.right, env))


@makes(cst.Subscript)
def _subscript(run: Run, node: cst.Subscript, env: Mapping[str, Member]) -> Member:
    owner = member_of(run, node.value, env).there
    if owner.kind not in ("list", "chain"):
        run.members.leak(owner)
        return OTHER
    place: Any = node.slice[0].slice
    if isinstance(place, cst.Slice):
        return Member("list", items=owner.items)
    at = place.value
    several = any(item.repeated for item in owner.items)
    if isinstance(at, cst.Integer) and not several and int(at.value) < len(owner.items):
        return owner.items[int(at.value)]
    return item_of(owner)


@makes(cst.Lambda)
def _lambda(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    run.members.leak(member_of(run, node.body, env))
    return OTHER


def layer_of(run: Run, name: str, site: Any, args: Sequence[tuple[str, Member]]) -> Member:
    """A layer of torch.nn with its arguments."""
    values = [value for _, value in args]
    if name in ("ModuleList", "ModuleDict"):
        held = values[0] if values else Member("list")
        return held if held.kind == "list" else Member("list", items=(held,))
    if name == "Sequential":
        items = [i for v in values for i in (v.items if v.kind == "list" else (v,))]
        unseen = any(keyword == "*" for keyword, _ in args)
        return Member("chain", name, site, (*items, OTHER) if unseen else tuple(items))
    for value in values:
        if value.kind != "list" or value.items:
            run.members.leak(value)
    if any(keyword == "return_indices" for keyword, _ in args):
        run.members.leaked.add(site)  # the places are those of torch's layout
        return OTHER
    if name in RIGID or name in FLEXIBLE or name in ("Flatten", "Unflatten"):
        run.members.visited[site] = name
        return Member("stock", name, site)
    return Member("stock", name) if name in ITEMWISE else OTHER


def gathered(name: str, values: list[Member]) -> Member:
    """list(...), zip(...) and their kin."""
    if name == "next":
        return item_of(values[0]) if values else OTHER
    if name == "enumerate":
        held = item_of(values[0]) if values else OTHER
        return Member("list", items=(Member("list", items=(OTHER, held), repeated=True),))
    if name == "zip":
        held = Member("list", items=tuple(map(item_of, values)), repeated=True)
        return Member("list", items=(held,))
    if name == "OrderedDict" and values and values[0].kind == "list":
        pairs = values[0].items
        if all(p.kind == "list" and len(p.items) == 2 for p in pairs):
            return Member("list", items=tuple(p.items[1] for p in pairs))
    return values[0] if values else Member("list")


def asked_of(owner: Member, name: str) -> Member:
    """What a method of a module answers."""
    if name in ITSELF:
        return owner
    if owner.kind in ("list", "chain") and name in ("values", "items", "pop"):
        held = item_of(owner)
        pair = Member("list", items=(OTHER, held), repeated=True)
        return Member("list", items=(pair if name == "items" else made_again(held),))
    return OTHER
