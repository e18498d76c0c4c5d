"""Scopes of a file: which binding each name has where it stands, as Python resolves names.

libcst's own ScopeProvider answers the same and takes as long as the whole port of a file. Most
files bind the name of an import once, at their top; the table is built for the names alone that a
file also binds otherwise ("contested" ones), so that it costs nothing where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children, of_kinds

#: What a name is whose bindings differ, where it cannot be told which one holds.
EITHER = "either"
_FUNCTIONS = (cst.FunctionDef, cst.Lambda)
_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)
_BRANCHING = (cst.If, cst.For, cst.While, cst.Try, cst.TryStar, cst.Match)


@dataclass(frozen=True)
class Binding:
    """One binding: when it happens, by the order of the source; the statement of its scope that it
    is in; the full name of what is imported, "" of anything else; whether it may not happen."""

    order: int
    group: int
    full: str
    perhaps: bool


@dataclass
class _Scope:
    """A module, function, lambda, class or comprehension."""

    kind: str
    parent: _Scope | None = None
    made: tuple[int, int] = (0, 0)  # order and group where the parent makes it
    group: int = 0
    bound: dict[str, list[Binding]] = field(default_factory=dict)
    moved: dict[str, _Scope] = field(default_factory=dict)  # by `global` and `nonlocal`

    @property
    def root(self) -> _Scope:
        """The scope of the module."""
        return self if self.parent is None else self.parent.root

    def enclosing(self, name: str) -> _Scope:
        """The scope that `nonlocal` means."""
        scope = self.parent
        while scope is not None and (scope.kind != "function" or name not in scope.bound):
            scope = scope.parent
        return self.root if scope is None else scope


def imported_as(alias: Any, module: str = "") -> tuple[str, str]:
    """The local and the full name of one part of an import statement."""
    full = written(alias.name)
    local = written(alias.asname.name) if alias.asname is not None else ""
    if module:
        return local or full, f"{module}.{full}"
    return (local, full) if local else (full.partition(".")[0],) * 2


def written(node: Any) -> str:
    """ "a.b.c" of a dotted name."""
    if isinstance(node, cst.Attribute):
        return f"{written(node.value)}.{node.attr.value}"
    return str(getattr(node, "value", ""))


def contested(module: cst.Module, imports: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Names of imports that a file binds to something else too; `imports`: (local, full)."""
    fulls: dict[str, set[str]] = {}
    for local, full in imports:
        fulls.setdefault(local, set()).add(full)
    others: set[str] = set()
    for node in of_kinds(module, *_BOUND):
        others.update(_BOUND[type(node)](node))
    return frozenset(n for n, found in fulls.items() if len(found) > 1 or n in others)


def bound_otherwise(module: cst.Module, names: Iterable[str]) -> frozenset[str]:
    """Which of some names a file binds by anything but an absolute import."""
    return contested(module, [(name, "") for name in names])


def targets(node: Any) -> list[str]:
    """Plain names that an assignment to an expression binds."""
    if isinstance(node, cst.Name):
        return [node.value]
    if isinstance(node, (cst.Tuple, cst.List)):
        return [name for part in node.elements for name in targets(part.value)]
    return targets(node.value) if isinstance(node, cst.StarredElement) else []


def _optional(node: Any) -> list[str]:
    return [] if node is None else targets(node)


def _not_imported(node: cst.ImportFrom) -> list[str]:
    """Names that come from a file beside this one."""
    if isinstance(node.names, cst.ImportStar) or not (node.relative or node.module is None):
        return []
    return [imported_as(alias)[0] for alias in node.names]


#: Nodes that bind names to something else than an import, and the names.
_BOUND: dict[type, Callable[[Any], list[str]]] = {
    cst.AssignTarget: lambda n: targets(n.target),
    cst.AugAssign: lambda n: targets(n.target),
    cst.AnnAssign: lambda n: targets(n.target) if n.value is not None else [],
    cst.NamedExpr: lambda n: targets(n.target),
    cst.For: lambda n: targets(n.target),
    cst.CompFor: lambda n: targets(n.target),
    cst.Param: lambda n: [n.name.value],
    cst.FunctionDef: lambda n: [n.name.value],
    cst.ClassDef: lambda n: [n.name.value],
    cst.WithItem: lambda n: targets(n.asname.name) if n.asname is not None else [],
    cst.ExceptHandler: lambda n: targets(n.name.name) if n.name is not None else [],
    cst.ExceptStarHandler: lambda n: targets(n.name.name) if n.name is not None else [],
    cst.Del: lambda n: targets(n.target),
    cst.MatchAs: lambda n: _optional(n.name),
    cst.MatchStar: lambda n: _optional(n.name),
    cst.MatchMapping: lambda n: _optional(n.rest),
    cst.TypeVar: lambda n: [n.name.value],
    cst.ImportFrom: _not_imported,
}


class ScopeTable:
    """What contested names are, node by node; `canonical` spells a full name as torch does."""

    def __init__(
        self, module: cst.Module, names: frozenset[str], canonical: Callable[[str], str] = str
    ) -> None:
        self.names, self._canonical = names, canonical
        self._order = 0
        self._uses: list[tuple[cst.Name, _Scope, int, int]] = []
        self.found: dict[cst.CSTNode, str | None] = {}  # full name, "", EITHER; None: unbound
        if names:
            scope = _Scope("module")
            self._body(module.body, scope)
            for node, inner, order, group in self._uses:
                self.found[node] = _resolved(inner, node.value, order, group)
            self._uses.clear()

    # what a scope is made of

    def _body(self, body: Iterable[Any], scope: _Scope) -> None:
        for statement in body:
            scope.group += 1
            self._visit(statement, scope, isinstance(statement, _BRANCHING))

    def _visit(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        self._order += 1
        kind = type(node)
        if kind is cst.Name:
            if node.value in self.names:
                self._uses.append((node, scope, self._order, scope.group))
            return
        if kind is cst.Attribute:
            self._visit(node.value, scope, perhaps)
            return
        rule = _PARTS.get(kind)
        if rule is not None:
            rule(self, node, scope, perhaps)
            return
        for child in children(node):
            self._visit(child, scope, perhaps)

    def _bind(self, name: str, scope: _Scope, full: str, perhaps: bool) -> None:
        if name not in self.names:
            return
        home = scope.moved.get(name, scope)
        if home is not scope:  # whenever the function is called
            perhaps = True
            away = Binding(self._order, home.group, full, False)
            scope.bound.setdefault(name, []).append(away)
        self._order += 1
        home.bound.setdefault(name, []).append(Binding(self._order, home.group, full, perhaps))

    def _bind_name(self, node: cst.Name, scope: _Scope, perhaps: bool) -> None:
        if node.value in self.names:
            self.found[node] = ""
            self._bind(node.value, scope, "", perhaps)

    def _bind_all(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        """Binds the names of a target; what else is in it is read."""
        if isinstance(node, cst.Name):
            self._bind_name(node, scope, perhaps)
        elif isinstance(node, (cst.Tuple, cst.List)):
            for part in node.elements:
                self._bind_all(part.value, scope, perhaps)
        elif isinstance(node, cst.StarredElement):
            self._bind_all(node.value, scope, perhaps)
        else:
            self._visit(node, scope, perhaps)

    def _parts(self, parts: Iterable[Any], scope: _Scope, perhaps: bool) -> None:
        for part in parts:
            if isinstance(part, cst.CSTNode):
                self._visit(part, scope, perhaps)

    # one rule for each kind of node that binds

    def _assign(self, node: cst.Assign, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.value, scope, perhaps)
        for target in node.targets:
            self._bind_all(target.target, scope, perhaps)

    def _aug_assign(self, node: cst.AugAssign, scope: _Scope, perhaps: bool) -> None:
        self._parts((node.target, node.value), scope, perhaps)
        self._bind_all(node.target, scope, perhaps)

    def _ann_assign(self, node: cst.AnnAssign, scope: _Scope, perhaps: bool) -> None:
        self._parts((node.annotation, node.value), scope, perhaps)
        if node.value is not None:
            self._bind_all(node.target, scope, perhaps)

    def _named(self, node: cst.NamedExpr, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.value, scope, perhaps)
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        self._bind_all(node.target, scope, perhaps)

    def _for(self, node: cst.For, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.iter, scope, perhaps)
        self._bind_all(node.target, scope, True)
        self._parts((node.body, node.orelse), scope, True)

    def _branch(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        self._parts(children(node), scope, True)

    def _with(self, node: cst.WithItem, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.item, scope, perhaps)
        if node.asname is not None:
            self._bind_all(node.asname.name, scope, perhaps)

    def _except(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        self._parts((node.type,), scope, perhaps)
        if node.name is not None:
            self._bind_all(node.name.name, scope, True)
        self._visit(node.body, scope, True)

    def _delete(self, node: cst.Del, scope: _Scope, perhaps: bool) -> None:
        self._bind_all(node.target, scope, perhaps)

    def _match(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        self._parts((p for p in children(node) if not isinstance(p, cst.Name)), scope, True)
        for name in children(node):
            if isinstance(name, cst.Name):
                self._bind_name(name, scope, True)

    def _import(self, node: cst.Import, scope: _Scope, perhaps: bool) -> None:
        for alias in node.names:
            local, full = imported_as(alias)
            self._bind(local, scope, self._canonical(full), perhaps)

    def _import_from(self, node: cst.ImportFrom, scope: _Scope, perhaps: bool) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        beside = bool(node.relative) or node.module is None
        for alias in node.names:
            local, full = imported_as(alias, "" if beside else written(node.module))
            self._bind(local, scope, "" if beside else self._canonical(full), perhaps)

    def _keyword(self, node: cst.Arg, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.value, scope, perhaps)

    def _declared(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        for item in node.names:
            name = item.name.value
            if name in self.names and scope.kind == "function":
                self.found[item.name] = ""
                home = scope.root if isinstance(node, cst.Global) else scope.enclosing(name)
                scope.moved[name] = home

    def _function(self, node: cst.FunctionDef, scope: _Scope, perhaps: bool) -> None:
        self._outside(node, scope, perhaps)
        self._bind_name(node.name, scope, perhaps)
        inner = self._inner("function", scope)
        self._parameters(node, inner)
        self._body(node.body.body, inner)

    def _lambda(self, node: cst.Lambda, scope: _Scope, perhaps: bool) -> None:
        self._outside(node, scope, perhaps)
        inner = self._inner("function", scope)
        self._parameters(node, inner)
        self._visit(node.body, inner, False)

    def _class(self, node: cst.ClassDef, scope: _Scope, perhaps: bool) -> None:
        self._parts((*node.decorators, *node.bases, *node.keywords), scope, perhaps)
        self._body(node.body.body, self._inner("class", scope))
        self._bind_name(node.name, scope, perhaps)

    def _comprehension(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        self._visit(node.for_in.iter, scope, perhaps)
        inner, part = self._inner("comprehension", scope), node.for_in
        while part is not None:
            if part is not node.for_in:
                self._visit(part.iter, inner, False)
            self._bind_all(part.target, inner, False)
            self._parts(part.ifs, inner, False)
            part = part.inner_for_in
        results = (node.key, node.value) if isinstance(node, cst.DictComp) else (node.elt,)
        self._parts(results, inner, False)

    def _inner(self, kind: str, scope: _Scope) -> _Scope:
        self._order += 1
        return _Scope(kind, scope, (self._order, scope.group))

    def _outside(self, node: Any, scope: _Scope, perhaps: bool) -> None:
        """Decorators, defaults and annotations belong to the scope around a function."""
        self._parts(getattr(node, "decorators", ()), scope, perhaps)
        for parameter in all_parameters(node.params):
            self._parts((parameter.default, parameter.annotation), scope, perhaps)
        self._parts((getattr(node, "returns", None),), scope, perhaps)

    def _parameters(self, node: Any, inner: _Scope) -> None:
        for parameter in all_parameters(node.params):
            self._bind_name(parameter.name, inner, False)


_PARTS: dict[type, Callable[[ScopeTable, Any, _Scope, bool], None]] = {
    cst.Assign: ScopeTable._assign,
    cst.AugAssign: ScopeTable._aug_assign,
    cst.AnnAssign: ScopeTable._ann_assign,
    cst.NamedExpr: ScopeTable._named,
    cst.For: ScopeTable._for,
    cst.If: ScopeTable._branch,
    cst.While: ScopeTable._branch,
    cst.WithItem: ScopeTable._with,
    cst.ExceptHandler: ScopeTable._except,
    cst.ExceptStarHandler: ScopeTable._except,
    cst.Del: ScopeTable._delete,
    cst.MatchAs: ScopeTable._match,
    cst.MatchStar: ScopeTable._match,
    cst.MatchMapping: ScopeTable._match,
    cst.Import: ScopeTable._import,
    cst.ImportFrom: ScopeTable._import_from,
    cst.Arg: ScopeTable._keyword,
    cst.Global: ScopeTable._declared,
    cst.Nonlocal: ScopeTable._declared,
    cst.FunctionDef: ScopeTable._function,
    cst.Lambda: ScopeTable._lambda,
    cst.ClassDef: ScopeTable._class,
    **{kind: ScopeTable._comprehension for kind in _COMPREHENSIONS},
}


def all_parameters(params: cst.Parameters) -> list[cst.Param]:
    """All parameters of a function, starred ones too."""
    starred = [p for p in (params.star_arg, params.star_kwarg) if isinstance(p, cst.Param)]
    return [*params.posonly_params, *params.params, *params.kwonly_params, *starred]


def _resolved(scope: _Scope, name: str, order: int, group: int) -> str | None:
    """What a name is at a place of a scope; None where nothing binds it."""
    here: _Scope | None = scope
    inside = False  # whether the place runs later than the scope's statements
    while here is not None:
        found = here.bound.get(name)
        if name in here.moved:
            found = [b for b in here.bound.get(name, ()) if not inside and b.order < order]
            if not found:
                return _seen(here.moved[name].bound.get(name, ()), order, group, True)
            return _seen(found, order, group, False)
        skipped = here.kind == "class" and inside
        if found and not skipped:
            late = inside or here.kind != "class" or any(b.order < order for b in found)
            if late:
                return _seen(found, order, group, inside)
        inside = inside or here.kind == "function"
        order, group = here.made
        here = here.parent
    return None


def _seen(found: Iterable[Binding], order: int, group: int, inside: bool) -> str:
    """The binding of a scope that a place sees: the last before it, and for what runs later
    (`inside` of a function) the later ones too."""
    groups: dict[int, list[Binding]] = {}
    for binding in found:
        groups.setdefault(binding.group, []).append(binding)
    possible: set[str] = set()
    for number, bindings in groups.items():
        earlier = [b for b in bindings if b.order < order]
        if number == group and not inside:
            bindings = earlier
        if number > group and not inside and possible:
            break
        if not bindings:
            continue
        full = _together(bindings) if number != group or inside else bindings[-1].full
        sure = not all(b.perhaps for b in bindings) or number == group
        replaces = sure and number <= group
        possible = {full} if replaces or not possible else possible | {full}
    return possible.pop() if len(possible) == 1 else EITHER


def _together(bindings: list[Binding]) -> str:
    """What one statement binds a name to: an import and what stands in where there is none
    (`try: import ...`, `except ImportError: ...`) count as the import."""
    fulls = [b.full for b in bindings if b.full]
    return fulls[-1] if fulls else ""
