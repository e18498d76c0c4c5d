"""From regions and the module tree to classes: attributes, methods, and how an instance is made."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter
from typing import Any

from torch2mlx.catalog.layers import Twin
from torch2mlx.export.capture.keywords import own_default
from torch2mlx.export.capture.trace import Traced, placeholder_names
from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.export.ir.regions import Region, nested
from torch2mlx.export.ir.render import literal
from torch2mlx.export.lower.build_layer import resolve
from torch2mlx.export.lower.modes import other_modes
from torch2mlx.export.lower.module_tree import Tree
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.structure.argument_names import argument_names
from torch2mlx.export.structure.attribute_paths import Paths, prefixes
from torch2mlx.export.structure.carried import Turns, turns_of
from torch2mlx.export.structure.checks import Checks
from torch2mlx.export.structure.classes import ClassTable, ClassText, Construct, Instance, Option
from torch2mlx.export.structure.constructors import (
    called,
    dictionary,
    identity,
    listed,
    ordered,
    required,
)
from torch2mlx.export.structure.loops import rolled
from torch2mlx.export.structure.methods import (
    Body,
    Method,
    Surroundings,
    finished,
    returned,
    structure,
)


class Assembly:
    """Classes of one model. `root` is the class of the model itself."""

    def __init__(self, program: Program, traced: Traced, stored: Stored, tree: Tree) -> None:
        self._program, self._traced, self._stored, self._tree = program, traced, stored, tree
        self.region = nested(program, tree.owner)
        written = {region.module for region in self.region.regions()} - {""}
        self._paths = Paths(tree, stored, written)
        #: What is checked of the arguments' lengths.
        self.lengths = traced.lengths
        self._method_names: dict[Region, str] = {}
        self._arguments: dict[Region, tuple[str, ...]] = {}
        self._methods: dict[str, list[tuple[str, Method]]] = {}
        self._regions: dict[str, list[Region]] = {}
        self._named = _names_of(program.functions)
        self.table = ClassTable(self._named)
        self._classes: dict[str, tuple[ClassText, Instance]] = {}
        self._aliases = placeholder_names(traced)
        self._graph = {node.name: node for node in traced.program.graph.nodes}
        for region in self.region.regions():
            self._method(region)
        for level in self._levels():
            self._file(level)
        self.functions = [(f.name, self._function(f.program)) for f in program.functions]

    def _function(self, program: Program) -> Method:
        """The statements of a function of the file."""
        region = nested(program, lambda path: path)
        region.inputs = [i.node for i in program.inputs if i.node is not None]
        names = {i.node: str(i.path[0]) for i in program.inputs if i.node is not None}
        reference, named = lambda n: self._paths.of(n, region), self._named
        body = Body(region, Surroundings(names, reference, self._callee, Turns({}, {}), {}, named))
        return body.write(lambda show: structure(program.outputs, show))

    @property
    def root(self) -> ClassText:
        """The class of the model."""
        return self._classes[""][0]

    def _method(self, region: Region) -> None:
        """Writes a region's statements, and finds the method that has the same ones."""
        arguments_of = lambda inner: self._arguments[inner]  # noqa: E731
        turns = turns_of(region, arguments_of)
        names, reference = self._argument_names(region), lambda n: self._paths.of(n, region)
        ways = self._ways() if region is self.region else {}
        around = Surroundings(names, reference, self._callee, turns, ways, self._named)
        body = Body(region, around)
        if region is self.region:
            result = lambda show: structure(self._program.outputs, show)  # noqa: E731
            region.inputs = [i.node for i in self._program.inputs if i.node is not None]
        else:
            result = lambda show: returned(region.outputs, show)  # noqa: E731
        method = body.write(result)
        method = finished(method, rolled(method.lines, self._paths.lengths(region.owner)))
        self._arguments[region] = method.arguments
        known = self._methods.setdefault(region.module, [])
        for name, other in known:
            if other == method:
                self._method_names[region] = name
                return
        name = "__call__" if not known else f"call_{len(known) + 1}"
        known.append((name, method))
        self._regions.setdefault(region.module, []).append(region)
        self._method_names[region] = name

    def modes(self) -> tuple[tuple[str, bool], ...]:
        """Modules in another mode than what is around them, by path in the emitted tree."""
        others = other_modes(self._tree, self._has_mode)
        return tuple((self._tree.owner(path), mode) for path, mode in others)

    def member(self, path: str) -> str:
        """`self...` from the model to a path of the emitted tree."""
        return self._paths.relative(path, self.region)

    def _has_mode(self, path: str) -> bool:
        """Whether a module of torch's is one of MLX's too, and not a part of a stock layer."""
        if not self._kept(path):
            return False
        above = path.rpartition(".")[0]
        while above and self._stock(above) is None:
            above = above.rpartition(".")[0]
        plain = path not in self._classes and self._tree.kind(path) in (
            "list",
            "dict",
            "parameters",
        )
        return not above and not plain

    def _ways(self) -> dict[Node, tuple[Any, ...]]:
        """Of the model's arguments that come in lists, dicts and dataclasses: the ways to them."""
        held = ((i.node, i.path) for i in self._program.inputs if i.node is not None)
        return {node: path for node, path in held if len(path) > 1}

    def given(self) -> list[str]:
        """The model's own names of the arguments of its statements, in their order."""
        held, ways = [i.node for i in self._program.inputs if i.node is not None], self._ways()
        containers = dict.fromkeys(str(way[0]) for way in ways.values())
        names = self._argument_names(self.region)
        return [*containers, *(names[node] for node in held if node not in ways)]

    def attribute(self, name: str) -> str:
        """What an assignment in a constructor writes to."""
        return self._paths.attribute(name)

    def root_arguments(self, method: Method) -> tuple[list[str], list[str]]:
        """Arguments of the model, those that were no arrays with their value, and checks of
        these."""
        arguments: dict[str, str] = {}
        checks: list[str] = []
        for given in self._program.inputs:
            name = str(given.path[0])
            if given.node is not None:
                arguments.setdefault(name, name)
            elif len(given.path) > 1 and name not in arguments:
                arguments[name] = f"{name}=None"  # a container of what is no array
            elif len(given.path) == 1:
                arguments[name], more = self._plain(name, given.value)
                checks += more
        lengths = Checks(self._program, self.lengths, self._traced.dynamic)
        checks += [line for check in lengths.all() for line in check.lines()]
        ordered, optional = [], False
        for text in arguments.values():  # in torch's order: what follows an optional one is too
            optional = optional or "=" in text
            ordered.append(text if "=" in text or not optional else f"{text}=None")
        return ordered, checks

    def _plain(self, name: str, value: Any) -> tuple[str, list[str]]:
        """An argument that was no array, and its check. Left out it is what it was translated
        with, where torch's own default says no other value."""
        if not (value is None or isinstance(value, (bool, int, float, str))):
            return f"{name}=None", []
        default, text = own_default(self._traced.model.forward, name), literal(value)
        plain = isinstance(default, (bool, int, float, str))
        exact = value is None or isinstance(value, bool)
        test = f"{name} is not {text}" if exact else f"{name} != {text}"
        told = f"raise ValueError({literal(f'translated with {name}={value!r}')})"
        argument = f"{name}={literal(default) if plain else text}"
        return name if default is Parameter.empty else argument, [f"if {test}:", f"    {told}"]

    def _argument_names(self, region: Region) -> dict[Node, str]:
        """Names of the forward's arguments for the values that came in as them."""
        if region is self.region:
            return {i.node: str(i.path[0]) for i in self._program.inputs if i.node is not None}
        calls = self._traced.calls.get(region.module, ())
        number = int(region.path.partition("@")[2] or 0)
        if number >= len(calls):
            return {}
        return argument_names(region, calls[number], self._aliases, self._graph)

    def _callee(self, region: Region) -> str:
        assert region.parent is not None
        name = self._method_names[region]
        if region.callee is not None:
            return "self" if name == "__call__" else f"self.{name}"
        called = self._paths.relative(region.owner, region.parent)
        return called if name == "__call__" else f"{called}.{name}"

    def _levels(self) -> list[list[str]]:
        """Paths of modules that need a class, leaves first."""
        heights: dict[str, int] = {}
        self._height("", heights)
        levels: list[list[str]] = [[] for _ in range(max(heights.values()) + 1)]
        for path, height in heights.items():
            levels[height].append(path)
        return levels

    def _height(self, path: str, heights: dict[str, int]) -> int:
        if path and (self._stock(path) is not None or not self._kept(path)):
            return -1
        if self._tree.elsewhere(path):
            return -1
        inner = [self._height(child, heights) for child in self._tree.children(path).values()]
        height = max(inner, default=-1) + 1
        if (
            path
            and self._tree.kind(path) in ("list", "dict", "sequential", "parameters")
            and not self._methods.get(path)
        ):
            return height - 1
        if path and self._chain(path):
            return height - 1
        heights[path] = height
        return height

    def _stock(self, path: str) -> Twin | None:
        return None if path in self._methods else self._tree.stock(path)

    def _kept(self, path: str) -> bool:
        """Whether a module has weights, or is called."""
        owner = self._tree.owner(path)
        called = path in self._called_layers() or path in self._called_modules()
        return called or self._paths.holds(owner)

    def _called_modules(self) -> set[str]:
        if not hasattr(self, "_callers"):
            self._callers = {p for path in self._methods for p in prefixes(path)}
        return self._callers

    def _called_layers(self) -> set[str]:
        if not hasattr(self, "_layers"):
            layers = [n.args[0].args[0] for n in self._program.nodes if n.op == "layer"]
            self._layers = {p for path in layers for p in prefixes(path)}
        return self._layers

    def _chain(self, path: str) -> bool:
        """Whether a Sequential is called as one: each item on what the one before gave."""
        if self._tree.kind(path) != "sequential":
            return False
        regions = self._regions.get(path, [])
        return all(self._is_chain(region, path) for region in regions)

    def _is_chain(self, region: Region, path: str) -> bool:
        wanted = list(self._tree.modules[path]._modules)
        if len(region.inputs) != 1 or len(region.outputs) != 1:
            return False
        value, called = region.inputs[0], []
        for item in region.items:
            if isinstance(item, Region):
                single = item.inputs == [value] and len(item.outputs) == 1
                module, result = item.module, item.outputs[0] if single else value
                single &= self._method_names[item] == "__call__"
            else:
                single = item.op == "layer" and list(item.args[1:]) == [value] and not item.kwargs
                module, result = (item.args[0].args[0], item) if single else ("", item)
            if not single or module.rpartition(".")[0] != path:
                return False
            called.append(module.rpartition(".")[2])
            value = result
        skipped = [name for name in wanted if name not in called]
        return (
            value is region.outputs[0]
            and called == [n for n in wanted if n in called]
            and all(self._passes(f"{path}.{name}") for name in skipped)
        )

    def _passes(self, path: str) -> bool:
        """Whether a module gives back what it gets."""
        return type(self._tree.modules[path]).__name__ == "Identity"

    def _file(self, level: list[str]) -> None:
        instances = {path: self._instance(path) for path in level}
        classes = self.table.file(list(instances.values()))
        for path, instance in instances.items():
            self._classes[path] = (classes[id(instance)], instance)

    def _instance(self, path: str) -> Instance:
        attributes = []
        for name, child in self._tree.children(path).items():
            made = self._make(child)
            if made is not None and "." not in name:
                attributes.append((name, made))
        numbered = [child for name, child in self._tree.children(path).items() if "." in name]
        if numbered:
            items = [self._make(child) or identity() for child in numbered]
            attributes.insert(0, ("layers", listed(items)))
        attributes += self._paths.loose(self._tree.owner(path))
        attributes += self._paths.tensors(self._tree.owner(path))
        kind = type(self._tree.modules[path]).__name__ if path else type(self._tree.model).__name__
        buffers = self._paths.buffers(path)
        return Instance(kind, attributes, self._methods.get(path, []), buffers)

    def _make(self, path: str) -> Construct | None:
        """How a module is made; None for one that holds nothing and is never called."""
        if not self._kept(path) or self._tree.elsewhere(path):
            return None
        twin = self._stock(path)
        if twin is not None:
            return self._paths.freezing(path, self._twin(twin))
        if path in self._classes:
            text, instance = self._classes[path]
            return text.construct(instance)
        children = self._tree.children(path)
        items = {name: self._make(child) for name, child in children.items()}
        kind = self._tree.kind(path)
        if kind == "parameters":
            return listed([made for _, made in self._paths.tensors(self._tree.owner(path))])
        if kind == "dict":
            return dictionary({k: v for k, v in items.items() if v is not None})
        made = [item or identity() for item in items.values()]
        return listed(made) if kind == "list" else called("nn.Sequential", made)

    def _twin(self, twin: Twin) -> Construct:
        """The constructor of a stock layer: arguments that are not the default."""
        path = twin.path.replace("torch2mlx.kit", "kit").replace("mlx.nn", "nn")
        target = resolve(twin.path)
        children = {name: self._child(value) for name, value in twin.children.items()}
        arguments: dict[str, Any] = {**twin.arguments, **children}
        made = Construct()
        if not isinstance(target, type):
            made.add(f"kit.Function({path}")
            first = False
        else:
            made.add(f"{path}(")
            first = True
        for name, value, shown in ordered(target, arguments):
            if isinstance(value, Construct):
                made.add("" if first else ", ", f"{name}=").extend(value)
            elif required(target, name):
                made.add("" if first else ", ", (name, self._paths.value(value)))
            else:
                made.add(Option(name, self._paths.value(value), shown))
            first = first and not shown
        return made.add(")")

    def _child(self, value: Any) -> Any:
        if isinstance(value, list):
            return listed([self._child(item) for item in value])
        from torch2mlx.catalog.layers import find_twin

        found = find_twin(value) if value is not None else None
        return self._twin(found) if isinstance(found, Twin) else None


def _names_of(functions: Iterable[Any]) -> set[str]:
    """Names of functions of the file, and of those that they call."""
    found = set()
    for function in functions:
        found |= {function.name, *_names_of(function.program.functions)}
    return found
