"""Which modules the attributes of a file's classes hold: constructors are followed through
functions, lists and arguments, as far as they are seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.building import asked_of, gathered, layer_of
from torch2mlx.porting.layout.constructors import bind, block
from torch2mlx.porting.layout.members import (
    MODULES,
    Env,
    Run,
    item_of,
    made_again,
    makes,
    member_of,
)
from torch2mlx.porting.layout.tables import ASKED, ITSELF, OF_LAYERS
from torch2mlx.porting.layout.values import NONE, OTHER, Member, either
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.types.layers import NORMALIZED

_DEPTH = 12
#: Functions of Python that keep nothing of what they are told.
_HARMLESS: tuple[str, ...] = (
    "print",
    "len",
    "isinstance",
    "range",
    "str",
    "repr",
    "type",
    "id",
    "hasattr",
    "int",
)
_HARMLESS += ("sum", "float", "issubclass", "bool", "super")


def followed(module: cst.Module, names: Names, is_module: Callable[[str], bool]) -> Run:
    """The run over all constructors of a file, with the modules that its classes hold."""
    run = Run(names, is_module, _twice(module))
    block(run, module.body, run.globals, [], False)
    _rest(run, module, _called(module))
    for name in _unmade(run, module):
        if name not in run.members.made:
            run.members.outer.add(name)
            _instance(run, name, [])
    _rest(run, module, frozenset())
    for value in run.globals.values():
        run.members.leak(value)
    return run


def _unmade(run: Run, module: Any) -> list[str]:
    """Classes of modules that nothing has made yet: those that no other names come first, and
    later ones before earlier ones."""
    owns = [n for n in run.names.classes if run.is_module(n)]
    named = {
        part.value
        for name in owns
        for part in walk(run.names.classes[name].body)
        if isinstance(part, cst.Name) and part.value != name
    }
    return sorted(reversed(owns), key=lambda name: name in named)


def _rest(run: Run, module: Any, later: frozenset[str]) -> None:
    """Functions that nothing in the file called, and methods of what is no module."""
    own: list[tuple[str | None, Any]]
    own = [(None, n) for n in module.body if isinstance(n, cst.FunctionDef)]
    for name, node in run.names.classes.items():
        if not run.is_module(name):
            own += [(name, n) for n in node.body.body if isinstance(n, cst.FunctionDef)]
    for owner, node in own:
        if node not in run.members.ran and node.name.value not in later:
            bound: Env = {} if owner is None else {"self": Member("self", owner)}
            run.members.leak(_run(run, node, bound, run.globals))


def _instance(run: Run, name: str, args: Sequence[tuple[str, Member]]) -> Member:
    """An object of a class of the file, whose constructor is run."""
    run.members.made.add(name)
    run.members.held.setdefault(name, {})
    found = _method(run, name, "__init__")
    if found is not None:
        _call_function(run, found, args, run.globals, Member("self", name))
    else:
        for _, value in args:
            run.members.leak(value)
    return Member("own", name)


def _method(run: Run, name: str, method: str) -> Any:
    node = run.names.classes.get(name)
    for part in node.body.body if node is not None else ():
        if isinstance(part, cst.FunctionDef) and part.name.value == method:
            return part
    for base in node.bases if node is not None else ():
        other = dotted(base.value)
        if other in run.names.classes and other != name:
            return _method(run, other, method)
    return None


def _call_function(
    run: Run, node: Any, args: Sequence[tuple[str, Member]], outer: Env, owner: Member | None = None
) -> Member:
    bound = _bound(run, node, args, owner)
    key = (node, tuple(sorted(bound.items(), key=lambda kv: kv[0])))
    if key not in run.known:
        if run.depth >= _DEPTH:
            for _, value in args:
                run.members.leak(value)
            return OTHER
        run.known[key] = OTHER
        run.known[key] = _run(run, node, bound, outer)
    return run.known[key]


def _bound(run: Run, node: Any, args: Sequence[tuple[str, Member]], owner: Any) -> Env:
    params = [p.name.value for p in (*node.params.posonly_params, *node.params.params)]
    bound: Env = {} if owner is None or not params else {params.pop(0): owner}
    places = iter(params)
    for keyword, value in args:
        name = keyword or next(places, "")
        known = name in params or name in (p.name.value for p in node.params.kwonly_params)
        if known and keyword != "*":
            bound[name] = value
        else:
            run.members.leak(value)
    return bound


def _run(run: Run, node: Any, bound: Env, outer: Env) -> Member:
    run.members.ran.add(node)
    env = {**outer, **bound}
    params = (*node.params.posonly_params, *node.params.params, *node.params.kwonly_params)
    for parameter in params:
        if parameter.name.value not in bound:
            given = parameter.default
            env[parameter.name.value] = OTHER if given is None else member_of(run, given, env)
    answers: list[Member] = []
    run.depth += 1
    before, run.constructing = run.constructing, node.name.value == "__init__"
    block(run, node.body.body, env, answers, False)
    run.constructing = before
    run.depth -= 1
    found: Member | None = None
    for answer in answers:
        found = either(found, answer)
    return OTHER if found is None else found


@makes(cst.Call)
def _call(run: Run, node: cst.Call, env: Env) -> Member:
    """What a call makes."""
    if dotted(node.func).startswith(OF_LAYERS):
        return _asked(run, node, env)
    return _called_or_made(run, node, env)


def _called_or_made(run: Run, node: cst.Call, env: Env) -> Member:
    full, name = run.names.of(node.func), dotted(node.func)
    if full.startswith("torch.nn.") and full.count(".") == 2 and full[9:10].isupper():
        return layer_of(run, full[9:], node, _arguments(run, node, env))
    if full in ("functools.partial", "copy.deepcopy", *NORMALIZED) and node.args:
        given = [member_of(run, a.value, env) for a in node.args]
        return given[0]
    if name.endswith(".__init__") or (
        isinstance(node.func, cst.Attribute) and node.func.attr.value == "__init__"
    ):
        return _parent(run, node, env)
    target, args = member_of(run, node.func, env), _arguments(run, node, env)
    target = target.there
    made = _made(run, target, args)
    if made is not None:
        return made
    if target.kind in MODULES:
        _called_here(run, node, target, args, env)
        return OTHER
    if isinstance(node.func, cst.Attribute):
        return _method_call(run, node.func, args, env)
    if name in ("list", "tuple", "reversed", "enumerate", "zip", "OrderedDict", "iter", "next"):
        return gathered(name, [value for keyword, value in args if not keyword])
    if name not in _HARMLESS or name in env:
        run.members.leak(target)
        for _, value in args:
            run.members.leak(value)
    return OTHER


def _asked(run: Run, node: cst.Call, env: Env) -> Member:
    """What reads or sets something of the layer that it is given first."""
    for _, value in _arguments(run, node, env)[1:]:
        run.members.leak(value)
    return OTHER


def _called_here(run: Run, node: cst.Call, target: Member, args: Any, env: Env) -> None:
    """A module is called: in methods of modules that is read later, elsewhere it is not."""
    owner = member_of(run, node.func.value, env) if isinstance(node.func, cst.Attribute) else OTHER
    own = owner.kind == "self" and run.is_module(owner.name) and not run.constructing
    if not own:
        run.members.leak(target)
    for _, value in args:
        run.members.leak(value)


def _made(run: Run, target: Member, args: list[tuple[str, Member]]) -> Member | None:
    """What a class or a function of the file makes."""
    if target.kind == "none":
        return NONE  # not reached
    if target.kind == "class":
        if target.name in run.names.classes:
            return _instance(run, target.name, args)
        return layer_of(run, target.name, target.site, args)
    if target.kind == "function":
        return _call_function(run, target.node, args, target.names or run.globals)
    if target.kind == "either" and target.makes:
        found: Member | None = None
        for item in target.items:
            found = either(found, _made(run, item, args) or OTHER)
        return found
    return None


def _parent(run: Run, node: cst.Call, env: Env) -> Member:
    """super().__init__(...): the items of a Sequential, or what a class of the file holds."""
    args = _arguments(run, node, env)
    owner = env.get("self", OTHER)
    cls = run.names.classes.get(owner.name)
    bases = [dotted(b.value) for b in cls.bases] if cls is not None else []
    if cls is not None and any(run.names.of(b.value) == "torch.nn.Sequential" for b in cls.bases):
        run.members.hold(owner.name, "", layer_of(run, "Sequential", None, args))
        return NONE
    for base in bases:
        found = _method(run, base, "__init__") if base in run.names.classes else None
        if found is not None:
            _call_function(run, found, args, run.globals, owner)
            return NONE
    for _, value in args:
        run.members.leak(value)
    return NONE


def _method_call(run: Run, func: cst.Attribute, args: Any, env: Env) -> Member:
    owner, name = member_of(run, func.value, env), func.attr.value
    if owner.kind == "self":
        found = _method(run, owner.name, name)
        if found is not None and not (run.is_module(owner.name) and name == "forward"):
            return _call_function(run, found, args, run.globals, owner)
    for _, value in args:
        run.members.leak(value)
    if owner.kind in MODULES and name not in ASKED and name not in ITSELF:
        run.members.broken(owner)  # it is changed, or called
    return asked_of(owner, name)


def _arguments(run: Run, node: cst.Call, env: Env) -> list[tuple[str, Member]]:
    found: list[tuple[str, Member]] = []
    for argument in node.args:
        value = member_of(run, argument.value, env)
        if argument.star == "*" and value.kind == "list":
            found += [("", item) for item in value.items]
        elif argument.star:
            found.append(("*", value))
        else:
            found.append((argument.keyword.value if argument.keyword else "", value))
    return found


@makes(cst.ListComp, cst.GeneratorExp)
def _list_comp(run: Run, node: Any, env: Mapping[str, Member]) -> Member:
    """A list made by a comprehension."""
    inner = dict(env)
    part = node.for_in
    while part is not None:
        bind(run, part.target, item_of(member_of(run, part.iter, inner)), inner)
        part = part.inner_for_in
    made = member_of(run, node.elt, inner)
    return Member("list", items=(made_again(made),))


def _called(module: Any) -> frozenset[str]:
    """Names of functions and methods that are called somewhere in a file."""
    functions = (call.func for call in calls(module))
    return frozenset(f.attr.value if isinstance(f, cst.Attribute) else dotted(f) for f in functions)


def _twice(module: Any) -> frozenset[str]:
    """Names under which a file defines more than one function or class."""
    counts = Counter(n.name.value for n in of_kinds(module, cst.FunctionDef, cst.ClassDef))
    return frozenset(name for name, count in counts.items() if count > 1)
