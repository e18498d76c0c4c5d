"""Which modules the attributes of a file's classes hold: constructors are followed through
functions, lists and arguments, as far as they are seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import libcst as cst

from torch2mlx.porting.layout.building import MODULES
from torch2mlx.porting.layout.constructors import Env, Running
from torch2mlx.porting.layout.tables import ASKED, ITSELF
from torch2mlx.porting.layout.values import NONE, OTHER, Member, either
from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, everything, walk

_DEPTH = 12
#: Functions of Python that keep nothing of what they are told.
_HARMLESS = ("print", "len", "isinstance", "range", "str", "repr", "type", "id", "hasattr", "int")
_HARMLESS += ("sum", "float", "issubclass", "bool", "super")


class Makers(Running):
    """Runs over constructors. `members`: class -> attribute -> module."""

    def __init__(self, module: cst.Module, names: Names, is_module: Any) -> None:
        super().__init__(names, is_module)
        self.globals: Env = {}
        self.several = _twice(module)
        self._depth = 0
        self._constructing = False  # whether the statements are those of an __init__
        self._known: dict[Any, Member] = {}
        self._block(module.body, self.globals, [], False)
        self._rest(module, _called(module))
        for name in self._unmade(module):
            if name not in self.made:
                self.outer.add(name)
                self.instance(name, [])
        self._rest(module, frozenset())
        for value in self.globals.values():
            self.leak(value)

    def _unmade(self, module: Any) -> list[str]:
        """Classes of modules that nothing has made yet: those that no other names come first, and
        later ones before earlier ones."""
        owns = [n for n in self.names.classes if self.is_module(n)]
        named = {
            part.value
            for name in owns
            for part in walk(self.names.classes[name].body)
            if isinstance(part, cst.Name) and part.value != name
        }
        return sorted(reversed(owns), key=lambda name: name in named)

    def _rest(self, module: Any, later: frozenset[str]) -> None:
        """Functions that nothing in the file called, and methods of what is no module."""
        own = [(None, n) for n in module.body if isinstance(n, cst.FunctionDef)]
        for name, node in self.names.classes.items():
            if not self.is_module(name):
                own += [(name, n) for n in node.body.body if isinstance(n, cst.FunctionDef)]
        for owner, node in own:
            if node not in self.ran and node.name.value not in later:
                bound = {} if owner is None else {"self": Member("self", owner)}
                self.leak(self._run(node, bound, self.globals))

    # functions

    def instance(self, name: str, args: Sequence[tuple[str, Member]]) -> Member:
        """An object of a class of the file, whose constructor is run."""
        self.made.add(name)
        self.members.setdefault(name, {})
        found = self._method(name, "__init__")
        if found is not None:
            self._call_function(found, args, self.globals, Member("self", name))
        else:
            for _, value in args:
                self.leak(value)
        return Member("own", name)

    def _method(self, name: str, method: str) -> Any:
        node = self.names.classes.get(name)
        for part in node.body.body if node is not None else ():
            if isinstance(part, cst.FunctionDef) and part.name.value == method:
                return part
        for base in node.bases if node is not None else ():
            other = dotted(base.value)
            if other in self.names.classes and other != name:
                return self._method(other, method)
        return None

    def _call_function(
        self, node: Any, args: Sequence[tuple[str, Member]], outer: Env, owner: Member | None = None
    ) -> Member:
        bound = self._bound(node, args, owner)
        key = (node, tuple(sorted(bound.items(), key=lambda kv: kv[0])))
        if key not in self._known:
            if self._depth >= _DEPTH:
                for _, value in args:
                    self.leak(value)
                return OTHER
            self._known[key] = OTHER
            self._known[key] = self._run(node, bound, outer)
        return self._known[key]

    def _bound(self, node: Any, args: Sequence[tuple[str, Member]], owner: Any) -> Env:
        params = [p.name.value for p in (*node.params.posonly_params, *node.params.params)]
        bound: Env = {} if owner is None or not params else {params.pop(0): owner}
        places = iter(params)
        for keyword, value in args:
            name = keyword or next(places, "")
            known = name in params or name in (p.name.value for p in node.params.kwonly_params)
            if known and keyword != "*":
                bound[name] = value
            else:
                self.leak(value)
        return bound

    def _run(self, node: Any, bound: Env, outer: Env) -> Member:
        self.ran.add(node)
        env = {**outer, **bound}
        params = (*node.params.posonly_params, *node.params.params, *node.params.kwonly_params)
        for parameter in params:
            if parameter.name.value not in bound:
                given = parameter.default
                env[parameter.name.value] = OTHER if given is None else self.value(given, env)
        answers: list[Member] = []
        self._depth += 1
        before, self._constructing = self._constructing, node.name.value == "__init__"
        self._block(node.body.body, env, answers, False)
        self._constructing = before
        self._depth -= 1
        found: Member | None = None
        for answer in answers:
            found = either(found, answer)
        return OTHER if found is None else found

    # calls

    def called(self, node: cst.Call, env: Env) -> Member:
        """What a call makes."""
        full = self.names.of(node.func)
        if full.startswith("torch.nn.") and full.count(".") == 2 and full[9:10].isupper():
            return self.layer(full[9:], node, self._arguments(node, env))
        if full in ("functools.partial", "copy.deepcopy") and node.args:
            given = [self.value(a.value, env) for a in node.args]
            return given[0]
        name = dotted(node.func)
        if name.endswith(".__init__") or (
            isinstance(node.func, cst.Attribute) and node.func.attr.value == "__init__"
        ):
            return self._parent(node, env)
        target, args = self.value(node.func, env), self._arguments(node, env)
        target = target.there
        made = self._made(target, args)
        if made is not None:
            return made
        if target.kind in MODULES:
            self._called_here(node, target, args, env)
            return OTHER
        if isinstance(node.func, cst.Attribute):
            return self._method_call(node.func, args, env)
        if name in ("list", "tuple", "reversed", "enumerate", "zip", "OrderedDict", "iter", "next"):
            return self.gathered(name, [value for keyword, value in args if not keyword])
        if name not in _HARMLESS or name in env:
            self.leak(target)
            for _, value in args:
                self.leak(value)
        return OTHER

    def _called_here(self, node: cst.Call, target: Member, args: Any, env: Env) -> None:
        """A module is called: in methods of modules that is read later, elsewhere it is not."""
        owner = self.value(node.func.value, env) if isinstance(node.func, cst.Attribute) else OTHER
        own = owner.kind == "self" and self.is_module(owner.name) and not self._constructing
        if not own:
            self.leak(target)
        for _, value in args:
            self.leak(value)

    def _made(self, target: Member, args: list[tuple[str, Member]]) -> Member | None:
        """What a class or a function of the file makes."""
        if target.kind == "none":
            return NONE  # not reached
        if target.kind == "class":
            if target.name in self.names.classes:
                return self.instance(target.name, args)
            return self.layer(target.name, target.site, args)
        if target.kind == "function":
            return self._call_function(target.node, args, target.names or self.globals)
        if target.kind == "either" and target.makes:
            found: Member | None = None
            for item in target.items:
                found = either(found, self._made(item, args) or OTHER)
            return found
        return None

    def _parent(self, node: cst.Call, env: Env) -> Member:
        """super().__init__(...): the items of a Sequential, or what a class of the file holds."""
        args = self._arguments(node, env)
        owner = env.get("self", OTHER)
        cls = self.names.classes.get(owner.name)
        bases = [dotted(b.value) for b in cls.bases] if cls is not None else []
        if cls is not None and any(
            self.names.of(b.value) == "torch.nn.Sequential" for b in cls.bases
        ):
            self.hold(owner.name, "", self.layer("Sequential", None, args))
            return NONE
        for base in bases:
            found = self._method(base, "__init__") if base in self.names.classes else None
            if found is not None:
                self._call_function(found, args, self.globals, owner)
                return NONE
        for _, value in args:
            self.leak(value)
        return NONE

    def _method_call(self, func: cst.Attribute, args: Any, env: Env) -> Member:
        owner, name = self.value(func.value, env), func.attr.value
        if owner.kind == "self":
            found = self._method(owner.name, name)
            if found is not None and not (self.is_module(owner.name) and name == "forward"):
                return self._call_function(found, args, self.globals, owner)
        for _, value in args:
            self.leak(value)
        if owner.kind in MODULES and name not in ASKED and name not in ITSELF:
            self.broken(owner)  # it is changed, or called
        return self.asked(owner, name)

    def _arguments(self, node: cst.Call, env: Env) -> list[tuple[str, Member]]:
        found: list[tuple[str, Member]] = []
        for argument in node.args:
            value = self.value(argument.value, env)
            if argument.star == "*" and value.kind == "list":
                found += [("", item) for item in value.items]
            elif argument.star:
                found.append(("*", value))
            else:
                found.append((argument.keyword.value if argument.keyword else "", value))
        return found

    def loop_value(self, node: Any, env: Mapping[str, Member]) -> Member:
        """A list made by a comprehension."""
        inner = dict(env)
        part = node.for_in
        while part is not None:
            self._bind(part.target, self.element(self.value(part.iter, inner)), inner)
            part = part.inner_for_in
        made = self.value(node.elt, inner)
        return Member("list", items=(self.again(made),))


def _called(module: Any) -> frozenset[str]:
    """Names of functions and methods that are called somewhere in a file."""
    functions = (call.func for call in calls(module))
    return frozenset(f.attr.value if isinstance(f, cst.Attribute) else dotted(f) for f in functions)


def _twice(module: Any) -> frozenset[str]:
    """Names under which a file defines more than one function or class."""
    kinds = (cst.FunctionDef, cst.ClassDef)
    counts = Counter(n.name.value for n in everything(module) if isinstance(n, kinds))
    return frozenset(name for name, count in counts.items() if count > 1)
