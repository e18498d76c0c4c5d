"""From regions and the module tree to classes: attributes, methods, and how an instance is made."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter
from typing import Any

from torch2mlx.catalog.layers import Twin
from torch2mlx.export.capture.keywords import own_default
from torch2mlx.export.capture.trace import Traced, placeholder_names
from torch2mlx.export.ir.nodes import Node, Program, Symbol
from torch2mlx.export.ir.outline import with_attributes
from torch2mlx.export.ir.regions import Region, nested
from torch2mlx.export.ir.render import literal
from torch2mlx.export.lower.build_layer import resolve
from torch2mlx.export.lower.modes import other_modes
from torch2mlx.export.lower.module_tree import Tree
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.structure.argument_names import argument_names, known_numbers
from torch2mlx.export.structure.attribute_paths import Paths, prefixes
from torch2mlx.export.structure.calls import Calls
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
from torch2mlx.export.structure.entrances import ONE, Entrances
from torch2mlx.export.structure.listed_arguments import with_lists
from torch2mlx.export.structure.methods import (
    Body,
    Method,
    Surroundings,
    finished,
    returned,
    structure,
)
from torch2mlx.export.structure.optional_parts import evened, with_absent_children
from torch2mlx.export.structure.stock import stock_layer
from torch2mlx.export.structure.sure import refused

#: How often modules are lifted to the height of others of their class.
_MOST_ROUNDS = 20


class Assembly:
    """Classes of one model. `root` is the class of the model itself."""

    def __init__(
        self,
        program: Program,
        traced: Traced,
        stored: Stored,
        tree: Tree,
        entrances: Entrances = ONE,
    ) -> None:
        self._program, self._traced, self._stored, self._tree = program, traced, stored, tree
        self._refused = refused(program)  # loops change what statements read
        self._graph = {node.name: node for node in traced.program.graph.nodes}
        self.region = nested(program, tree.owner, known_numbers(traced.calls, self._graph))
        entrances.arrange(self.region)
        written = {region.module for region in self.region.regions()} - {""}
        self._paths = Paths(tree, stored, written)
        #: What is checked of the arguments' lengths.
        self.lengths = traced.lengths
        kind = lambda path: type(tree.modules.get(path))  # noqa: E731
        with_lists(self.region, kind, traced.calls)
        self._calls = Calls(self.region, self._paths, kind, entrances)
        self._methods = self._calls.methods
        self._named = _names_of(program.functions)
        self.table = ClassTable(self._named)
        self._layers_alike: dict[str, Construct | None] = {}
        self._classes: dict[str, tuple[ClassText, Instance]] = {}
        self._aliases = placeholder_names(traced)
        for level in self._levels():
            self._file(level)
        self.functions = [(f.name, self._function(f.program)) for f in program.functions]

    def _function(self, program: Program) -> Method:
        """The statements of a function of the file."""
        region = nested(program, lambda path: path)
        region.inputs = [i.node for i in program.inputs if i.node is not None]
        names = {i.node: str(i.path[0]) for i in program.inputs if i.node is not None}
        reference, named = lambda n: self._paths.of(n, region), self._named
        body = Body(
            region,
            Surroundings(names, reference, self._calls.callee, self._arguments, functions=named),
        )
        return body.write(lambda show: structure(program.outputs, show))

    @property
    def root(self) -> ClassText:
        """The class of the model."""
        return self._classes[""][0]

    def text(self, path: str) -> ClassText:
        """The class of a module."""
        return self._classes[path][0]

    def _method(self, region: Region) -> Method:
        """Writes a region's statements."""
        names, reference = self._argument_names(region), lambda n: self._paths.of(n, region)
        around = Surroundings(
            names,
            reference,
            self._calls.callee,
            self._arguments,
            self._paths.series(region),
            self._ways() if region is self.region else {},
            self._named,
        )
        if region is self.region:
            result = lambda show: structure(self._program.outputs, show)  # noqa: E731
            region.inputs = [i.node for i in self._program.inputs if i.node is not None]
        else:
            result = lambda show: returned(region.outputs, show)  # noqa: E731
        return finished(Body(region, around).write(result))

    def _arguments(self, region: Region) -> tuple[str, ...]:
        """Names of the arguments of the method that a call is one of."""
        if region.module not in self._classes:
            return ()
        methods = dict(self._classes[region.module][0].methods)
        return methods[self._calls.names[region]].arguments

    def _write(self, text: ClassText) -> None:
        """Writes the methods of a class, of the first of its instances, with attributes for the
        numbers that others have otherwise."""
        names, first = text.attribute_parameters(), 0
        for name, region, outline in text.instances[0].methods:
            self._writing = region
            for item, step in zip(region.items, outline.steps, strict=True):
                here = {i: names.get(first + i) for i in range(len(step.numbers))}
                if isinstance(item, Node) and any(here.values()):
                    attributes = {i: Symbol(f"self.{n}") for i, n in here.items() if n}
                    with_attributes(item, attributes)
                first += len(step.numbers)
            with_absent_children(region, text.optional(), self._called)
            text.methods.append((name, self._method(region)))

    def _called(self, item: Node | Region) -> str:
        """What a statement calls, as the method names it; "" for what is no call of a module."""
        if isinstance(item, Region):
            return self._calls.callee(item)
        return self._paths.of(item.args[0], self._writing) if item.op == "layer" else ""

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
        lengths = Checks(self._program, self.lengths, self._traced.dynamic, self._refused)
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

    def _levels(self) -> list[list[str]]:
        """Paths of modules that need a class, leaves first; those that may share one together."""
        heights: dict[str, int] = {}
        self._least: dict[str, int] = {}
        for _ in range(_MOST_ROUNDS):
            heights = {}
            self._height("", heights)
            if not self._lifted(heights):
                break
        levels: list[list[str]] = [[] for _ in range(max(heights.values()) + 1)]
        for path, height in heights.items():
            levels[height].append(path)
        return levels

    def _lifted(self, heights: dict[str, int]) -> bool:
        """Notes that modules which do the same have one height, if none holds another; whether one
        of them had less."""
        groups: dict[Any, list[str]] = {}
        for path in heights:
            shapes = tuple(self._calls.outlines[r].shape() for _, r in self._methods.get(path, ()))
            if path and shapes:
                groups.setdefault((type(self._tree.modules[path]), shapes), []).append(path)
        found = False
        for paths in groups.values():
            most = max(map(heights.__getitem__, paths))
            low = [path for path in paths if heights[path] < most]
            if low and not any(b.startswith(f"{a}.") for a in paths for b in paths):
                self._least.update(dict.fromkeys(paths, most))
                found = True
        return found

    def _height(self, path: str, heights: dict[str, int]) -> int:
        if path and (self._stock(path) is not None or not self._kept(path)):
            return -1
        if self._tree.elsewhere(path):
            return -1
        if path and self._alike(path) is not None:
            return -1
        inner = [self._height(child, heights) for child in self._tree.children(path).values()]
        height = max(max(inner, default=-1) + 1, self._least.get(path, 0))
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

    def _alike(self, path: str) -> Construct | None:
        """The layer of mlx.nn that computes what a module of the model's own computes."""
        if path not in self._layers_alike:
            found = None
            if path in self._methods and not self._tree.children(path):
                found = stock_layer(self._instance(path))
            self._layers_alike[path] = found and self._paths.freezing(path, found)
        return self._layers_alike[path]

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
        calls = self._methods.get(path, [])
        return all(self._is_chain(region, path) for _, region in calls)

    def _is_chain(self, region: Region, path: str) -> bool:
        wanted = list(self._tree.modules[path]._modules)
        if len(region.inputs) != 1 or len(region.outputs) != 1:
            return False
        value, called = region.inputs[0], []
        for item in region.items:
            if isinstance(item, Region):
                single = item.given == [value] and len(item.outputs) == 1
                module, result = item.module, item.outputs[0] if single else value
                single &= self._calls.names[item] == "__call__"
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
        self._whole(list(instances.values()))
        classes = self.table.file(evened(list(instances.values())))
        for path, instance in instances.items():
            self._classes[path] = (classes[id(instance)], instance)
        for text in dict.fromkeys(classes.values()):
            self._write(text)

    def _whole(self, instances: list[Instance]) -> None:
        """Gives methods their own statements back where no instance of their class has those that
        they were thought to share: a class is written after one that has all."""
        shared: dict[Any, list[Instance]] = {}
        for one in instances:
            shared.setdefault(one.signature(), []).append(one)
        for alike in shared.values():
            if all(one.leaves_out() for one in alike):
                own = self._calls.own
                for one in alike:
                    one.methods[:] = [(name, r, own.get(r, held)) for name, r, held in one.methods]

    def _instance(self, path: str) -> Instance:
        children = []
        for name, child in self._tree.children(path).items():
            made = self._make(child)
            if made is not None and "." not in name:
                children.append((name, made))
        numbered = [child for name, child in self._tree.children(path).items() if "." in name]
        if numbered:
            items = [self._make(child) or identity() for child in numbered]
            children.insert(0, ("layers", listed(items)))
        owner = self._tree.owner(path)
        tensors = [*self._paths.loose(owner), *self._paths.tensors(owner)]
        module = self._tree.modules[path] if path else self._tree.model
        outlines = self._calls.outlines
        methods = [(name, r, outlines[r]) for name, r in self._methods.get(path, [])]
        return Instance(module, children, tensors, methods, self._paths.buffers(path))

    def _make(self, path: str) -> Construct | None:
        """How a module is made; None for one that holds nothing and is never called."""
        if not self._kept(path) or self._tree.elsewhere(path):
            return None
        twin = self._stock(path)
        if twin is not None:
            return self._paths.freezing(path, self._twin(twin))
        alike = self._alike(path)
        if alike is not None:
            return alike
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
        named = False  # what follows an argument that is named has to be named too
        for name, value, shown in ordered(target, arguments):
            if isinstance(value, Construct):
                made.add("" if first else ", ", f"{name}=").extend(value)
                named = True
            elif required(target, name):
                key = f"{name}=" if named else ""
                made.add("" if first else ", ", key, (name, self._paths.value(value)))
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
