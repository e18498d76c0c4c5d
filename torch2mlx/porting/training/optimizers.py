"""Which modules an optimizer trains: read off its constructor, wherever in the file that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import libcst as cst

from torch2mlx.catalog.processes import find_shared
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.own_names import KIT
from torch2mlx.porting.scopes.traversal import calls, code, of_kinds, walk

#: The arguments of a function that answers optimizers, and the modules of each: by its place in a
#: tuple, or by None where it is the answer.
_Maker = tuple[list[str], dict["int | None", list[str]]]
_NAMED = (cst.Name, cst.Tuple)


def parameters_of(node: Any) -> list[str]:
    """Modules whose `.parameters()` stand in an expression, or whose weights, in order."""
    return [name for name in dict.fromkeys(map(_owner, walk(node))) if name]


def _owner(node: Any) -> str:
    """The module whose parameters, or of which one, an expression is; "" of others."""
    if isinstance(node, cst.Attribute) and node.attr.value in ("weight", "bias"):
        return _named(node.value)
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
        return ""
    if dotted(node.func) == f"{KIT}.weights.get":
        return _named(node.args[0].value)
    all_of = node.func.attr.value in ("parameters", "named_parameters")
    return _named(node.func.value) if all_of else ""


def _named(node: Any) -> str:
    return dotted(node) or _holder(node)


def _holder(node: Any) -> str:
    """The module that holds what `net[0]` or `net.layers[0].fc` is a part of."""
    within, name = node, ""
    while isinstance(within, (cst.Subscript, cst.Attribute)):
        name = dotted(within.value) if isinstance(within, cst.Subscript) else name
        within = within.value
    owner = name.rpartition(".")[0]
    return owner if owner not in ("", "self") else name


def trained_modules(module: cst.Module, names: Names) -> dict[str, list[str]]:
    """Optimizer -> modules, both as the source names them."""
    trained: dict[str, list[str]] = {}
    for target, _, modules in made_optimizers(module, names):
        trained.setdefault(target, modules)
    return trained


def made_optimizers(module: cst.Module, names: Names) -> Iterator[tuple[str, Any, list[str]]]:
    """Each optimizer that a name is given: the name, the call, and the modules, where they are
    seen."""
    held = held_parameters(module)
    makers = _makers(module, names, held)
    kept = _kept(module)
    for target, value, place in _given(module):
        if isinstance(value, cst.Call):
            modules = [] if place is not None else _constructed(value, names, held)
            modules = modules or _made(value, makers, place)
            if modules:
                yield target, value, [kept.get((target, m), m) for m in modules]


def _given(module: cst.Module) -> Iterator[tuple[str, Any, int | None]]:
    """Names, what they are given, and the place in it of those that take a tuple apart."""
    yield from ((target, value, None) for target, value in _assignments(module))
    for node in of_kinds(module, cst.Assign):
        target = node.targets[0].target
        if len(node.targets) == 1 and isinstance(target, cst.Tuple):
            names = [dotted(element.value) for element in target.elements]
            yield from ((name, node.value, i) for i, name in enumerate(names) if name)


def made_here(module: cst.Module, names: Names) -> Callable[[Any], list[str]]:
    """The modules of a call of torch.optim."""
    held = held_parameters(module)
    return lambda call: _constructed(call, names, held) if isinstance(call, cst.Call) else []


def _kept(module: cst.Module) -> dict[tuple[str, str], str]:
    """(`self.optimizer`, `model`) -> `self.model`, for what a method sets and its object keeps:
    other methods know the argument by that name alone."""
    found = {}
    for node in of_kinds(module, cst.FunctionDef):
        if isinstance(node, cst.FunctionDef):
            pairs = [pair for part in walk(node.body) for pair in _pairs(part)]
            kept = {value: target for target, value in pairs if target.startswith("self.")}
            own = [target for target, _ in pairs if target.startswith("self.")]
            found.update({(o, value): name for o in own for value, name in kept.items() if value})
    return found


def _pairs(node: Any) -> Iterator[tuple[str, str]]:
    """Target and value of each name that an assignment sets; "" for a value that is no name."""
    if not isinstance(node, cst.Assign) or len(node.targets) != 1:
        return
    for target, value in apart(node.targets[0].target, node.value):
        yield dotted(target), dotted(value)


def moves_by_gradients_alone(module: cst.Module, names: Names) -> bool:
    """Whether no optimizer of a file moves a parameter whose gradient is zero."""
    made = [(names.of(c.func), c.args) for c in calls(module)]
    made = [(full, args) for full, args in made if full.startswith("torch.optim.")]
    made = [(full, args) for full, args in made if "lr_scheduler" not in full]
    plain = all(full == "torch.optim.SGD" and len(args) <= 2 for full, args in made)
    words = {a.keyword.value for _, args in made for a in args if a.keyword is not None}
    return plain and words <= {"params", "lr"} and not any(a.star for _, args in made for a in args)


def wrapped_modules(module: cst.Module, names: Names) -> dict[str, str]:
    """Names that hold another module's wrapper for several processes -> that module."""
    found = {}
    for target, value in _assignments(module):
        inner = dotted(_unwrapped(value, names)) if isinstance(value, cst.Call) else ""
        if inner and inner != target:
            found[target] = inner
    return found


def wraps(statement: Any, names: Names) -> bool:
    """Whether a statement gives a name to a module that is wrapped for several processes."""
    held = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
    values = [part.value for part in held if isinstance(part, cst.Assign)]
    return any(_unwrapped(value, names) is not None for value in values)


def _unwrapped(node: Any, names: Names) -> Any:
    """What stands in wrappers for several processes, and is moved to a device."""
    wrapped = False
    while isinstance(node, cst.Call):
        shared = find_shared(names.of(node.func))
        if shared is not None and shared.wraps and node.args:
            node, wrapped = node.args[0].value, True
        elif isinstance(node.func, cst.Attribute) and node.func.attr.value in ("to", "cuda"):
            node = node.func.value
        else:
            return None
    return node if wrapped else None


def _assignments(module: Any) -> Iterator[tuple[str, Any]]:
    return _assigned(of_kinds(module, cst.Assign))


def _assigned(nodes: list[Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of the assignments to names among some nodes, those of tuples one by one."""
    for node in nodes:
        if type(node) is cst.Assign and len(node.targets) == 1:
            pairs = apart(node.targets[0].target, node.value)
            yield from ((name, value) for target, value in pairs if (name := dotted(target)))


def apart(target: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """`a, b = x, y` as two pairs, any other assignment as one."""
    both = isinstance(target, (cst.Tuple, cst.List)) and isinstance(value, (cst.Tuple, cst.List))
    if both and len(target.elements) == len(value.elements):
        for one, other in zip(target.elements, value.elements, strict=True):
            yield from apart(one.value, other.value)
    else:
        yield target, value


def held_parameters(module: cst.Module, chains: set[str] | None = None) -> dict[str, list[str]]:
    """Names that hold parameters, in lists, dicts or groups -> the modules that these are of.
    `chains`: those of the whole file, where `module` is a part of it."""
    held: dict[str, list[str]] = {}
    chains = chain_names(module) if chains is None else chains
    for node in of_kinds(module, cst.Assign, cst.AugAssign, cst.For):
        if isinstance(node, cst.AugAssign):
            listed = isinstance(node.value, (cst.List, cst.Tuple, cst.ListComp, cst.Call))
            if dotted(node.target) in held or (listed and not is_value(node.value, chains)):
                _add(held, dotted(node.target), held_in(node.value, held))
        elif isinstance(node, cst.Assign):
            for target, value in _assigned([node]):
                if not is_value(value, chains):
                    _add(held, target, held_in(value, held))
        elif isinstance(node, cst.For):
            modules = held_in(node.iter, held)
            for call in calls(node.body) if modules else ():
                func = call.func
                if isinstance(func, cst.Attribute) and func.attr.value in ("append", "add"):
                    _add(held, dotted(func.value), modules)
    return held


def several_lists(module: cst.Module) -> set[str]:
    """Names that are given parameters of some modules here and of others there, and not the one by
    the other."""
    held, chains = held_parameters(module), chain_names(module)
    found: dict[str, list[list[str]]] = {}
    for node in of_kinds(module, cst.Assign) if held else ():
        for target, value in _assigned([node]):
            if target not in held or is_value(value, chains):
                continue
            grows = any(dotted(part) == target for part in walk(value))
            modules = [] if grows else sorted(held_in(value, held))
            if modules:
                found.setdefault(target, []).append(modules)
    return {name for name, made in found.items() if any(one != made[0] for one in made)}


def chain_names(module: Any) -> set[str]:
    """Other names under which a file imports `itertools.chain`."""
    return {
        dotted(alias.asname.name)
        for node in of_kinds(module, cst.ImportFrom)
        if not isinstance(node.names, cst.ImportStar)
        if node.module is not None and dotted(node.module) == "itertools"
        for alias in node.names
        if dotted(alias.name) == "chain" and alias.asname is not None
    }


def is_value(node: Any, chains: set[str]) -> bool:
    """Whether an expression is computed from parameters: a number, an optimizer, an iterator."""
    kinds = (cst.List, cst.Dict, cst.ListComp, cst.DictComp, cst.Set, cst.SetComp, cst.Tuple)
    if isinstance(node, (*kinds, cst.BinaryOperation, cst.Name)):
        return False
    if isinstance(node, cst.Call):
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        return getattr(name, "value", "") not in (
            *("parameters", "named_parameters", "list", "dict", "filter", "tuple", "chain"),
            *("iter", "sorted", "items", "values"),
            *chains,
        )
    return True


def _add(held: dict[str, list[str]], name: str, modules: list[str]) -> None:
    if name and modules:
        held[name] = list(dict.fromkeys([*held.get(name, []), *modules]))


def held_in(node: Any, held: Mapping[str, list[str]]) -> list[str]:
    """Modules whose parameters an expression holds."""
    found = parameters_of(node)
    for inner in walk(node):
        if isinstance(inner, cst.Name):
            found = [*found, *held.get(inner.value, [])]
    return list(dict.fromkeys(found))


def takes_all(node: Any, whole: Mapping[str, bool]) -> bool:
    """Whether what an optimizer is given are all parameters of the modules named in it, in one
    group. `whole` says it of names, and with () which functions give all that they are given."""
    if isinstance(node, cst.Call):
        func = node.func
        name = getattr(func.attr if isinstance(func, cst.Attribute) else func, "value", "")
        if name == "parameters" and isinstance(func, cst.Attribute):
            return not node.args and not _holder(func.value)
        if name == "filter" and len(node.args) == 2:
            return "requires_grad" in code(node.args[0]) and takes_all(node.args[1].value, whole)
        wraps = name in ("list", "chain", "tuple", "iter") or whole.get(f"{name}()", False)
        return wraps and bool(node.args) and all(takes_all(a.value, whole) for a in node.args)
    if isinstance(node, (cst.List, cst.Tuple)):
        stars = (cst.StarredElement,)
        return all(isinstance(e, stars) and takes_all(e.value, whole) for e in node.elements)
    if isinstance(node, (cst.ListComp, cst.GeneratorExp)):
        return _comprehends_all(node, whole)
    if isinstance(node, cst.BinaryOperation):
        return takes_all(node.left, whole) and takes_all(node.right, whole)
    return isinstance(node, cst.Name) and whole.get(node.value, False)


def _comprehends_all(node: Any, whole: Mapping[str, bool]) -> bool:
    """`[p for p in m.parameters()]`, at most with `if p.requires_grad`."""
    name, loop = code(node.elt), node.for_in
    plain = isinstance(node.elt, cst.Name) and loop.inner_for_in is None
    tests = all(code(part.test) == f"{name}.requires_grad" for part in loop.ifs)
    return plain and tests and takes_all(loop.iter, whole)


def whole_names(module: cst.Module) -> dict[str, bool]:
    """Names that hold all parameters of their modules, wherever they are set."""
    chains = chain_names(module)
    found = {f"{name}()": True for name in chains}
    for node in of_kinds(module, cst.Assign, cst.AugAssign, cst.FunctionDef, cst.Call):
        if isinstance(node, cst.AugAssign):
            name = dotted(node.target)
            found[name] = found.get(name, False) and takes_all(node.value, found)
        elif isinstance(node, cst.Assign):
            for target, value in _assigned([node]):
                if not is_value(value, chains):
                    found[target] = found.get(target, True) and takes_all(value, found)
        elif isinstance(node, cst.FunctionDef):
            for parameter in node.params.params:
                found[parameter.name.value] = False
        elif isinstance(node, cst.Call) and _changes(node.func):
            method: Any = node.func
            found[dotted(method.value)] = False
    return found


def _changes(func: Any) -> bool:
    changing = ("append", "extend", "add", "remove", "pop")
    return isinstance(func, cst.Attribute) and func.attr.value in changing


def _constructed(call: cst.Call, names: Names, held: dict[str, list[str]]) -> list[str]:
    """Modules of a call of torch.optim."""
    full = names.of(call.func)
    if not full.startswith("torch.optim.") or "lr_scheduler" in full or not call.args:
        return []
    return held_in(call.args[0].value, held)


def _makers(module: cst.Module, names: Names, held: dict[str, list[str]]) -> dict[str, _Maker]:
    """Functions that answer optimizers."""
    found: dict[str, _Maker] = {}
    for node in of_kinds(module, cst.FunctionDef):
        inner = list(walk(node))
        values = [part.value for part in inner if type(part) is cst.Return]
        local = dict(_assigned(inner)) if any(isinstance(v, _NAMED) for v in values) else {}
        arguments = [p.name.value for p in node.params.params]
        for value in values:
            several = isinstance(value, cst.Tuple)
            parts: list[Any] = [value]
            if isinstance(value, cst.Tuple):
                parts = [element.value for element in value.elements]
            for place, part in enumerate(parts):
                part = local.get(part.value) if isinstance(part, cst.Name) else part
                modules = _constructed(part, names, held) if isinstance(part, cst.Call) else []
                if modules:
                    maker = found.setdefault(node.name.value, (arguments, {}))
                    maker[1][place if several else None] = modules
    return found


def _made(call: cst.Call, makers: dict[str, _Maker], place: int | None) -> list[str]:
    """Modules of an optimizer that a function of the file answers, alone or at a place."""
    owner, _, name = dotted(call.func).rpartition(".")
    arguments, answered = makers.get(name, ([], {}))
    modules = answered.get(place, [])
    given = {"self": owner}
    arguments = [a for a in arguments if a != "self"]
    for place, argument in enumerate(call.args):
        keyword = argument.keyword.value if argument.keyword is not None else None
        if keyword or place < len(arguments):
            given[keyword or arguments[place]] = dotted(argument.value)
    made = []
    for module in modules:
        root, dot, rest = module.partition(".")
        made.append((given.get(root) or root) + dot + rest)
    return made
