"""Stock layers: a call of an nn.Linear stays a call, of an mlx.nn.Linear that the file declares."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

from torch2mlx.catalog.layers import Twin
from torch2mlx.catalog.layers.entry import rank_of
from torch2mlx.errors import Torch2MLXError
from torch2mlx.export.capture.packing import reads_packed
from torch2mlx.export.capture.schemas import assigns, written_by
from torch2mlx.export.capture.trace import Call, Parts, Traced
from torch2mlx.export.ir.builder import Refuse, common_dtype
from torch2mlx.export.ir.nodes import Frame, Node, first_order, last_order, learn, replace
from torch2mlx.export.ir.packed import is_packed, whole
from torch2mlx.export.ir.provenance import hints, scope_of, where_of
from torch2mlx.export.lower.build_layer import layer_of

#: Stock layers of MLX that multiply the last axis with weights of one width.
PRODUCTS = ("Linear", "Conv1d", "Conv2d", "Conv3d")


@dataclass
class Stock:
    """One call of a stock layer: where in the tree, what torch recorded, and its graph nodes."""

    path: str
    twin: Twin
    call: Call
    frames: tuple[Frame, ...]
    nodes: list[Any] = field(default_factory=list)
    writes: list[Any] = field(default_factory=list)
    sizes: list[Any] = field(default_factory=list)  # that others use too
    done: bool = False


class Layers:
    """Finds the calls of stock layers in a graph, and lowers each as one node."""

    def __init__(self, traced: Traced, lowering: Any) -> None:
        self._traced, self._lowering = traced, lowering
        self._modules = dict(traced.model.named_modules(remove_duplicate=False))
        self._by_node: dict[Any, Stock] = {}
        own = {path for path, module in self._modules.items() if "forward" in vars(module)}
        #: paths of layers that do something else than their class does
        self._own = own | traced.hooked
        self._twins: dict[str, Twin | None] = {}
        self._made: dict[str, Any] = {}
        self._nodes: dict[Any, dict[str, Any]] = {}  # by graph and name
        self._renamed: dict[str, str] = {}  # results, as recorded and as torch.export has them
        parts = (getattr(m, "graph", None) for m in traced.program.graph_module.modules())
        calls = (n for g in parts for n in getattr(g, "nodes", ()) if n.op == "call_function")
        #: whether the program, or a graph inside it, writes to tensors
        self.mutating = any(_writes_to(node) is not None for node in calls)
        #: paths of layers that are written out, though the file could declare them
        self.never: frozenset[str] = frozenset()
        #: path -> twin of every stock layer that the file declares
        self.used: dict[str, Twin] = {}

    def find(self, graph: Any) -> None:
        """Notes which nodes belong to calls of stock layers."""
        calls: dict[str, Stock | None] = {}
        for node in graph.nodes:
            if node.op != "call_function":
                continue
            for i, frame in enumerate(scope_of(node)):
                twin = self._twin(frame.path)
                if twin is None:
                    continue
                if frame.path not in calls:
                    plain = not (node in self._lowering.selecting and _word(twin) == "elementwise")
                    at = scope_of(node)[:i]
                    calls[frame.path] = self._stock(frame.path, twin, at) if plain else None
                stock = calls[frame.path]
                if stock is not None:
                    stock.nodes.append(node)
                    self._by_node[node] = stock
                break
        for stock in calls.values():
            if stock is not None and not self._closed(stock):
                self._forget(stock)

    def _forget(self, stock: Stock) -> None:
        for node in stock.nodes:
            self._by_node.pop(node, None)

    def _twin(self, path: str) -> Twin | None:
        plain = path.split("@")[0]
        if plain not in self._twins:
            module = self._modules.get(plain)
            known = module is not None and plain and plain not in self.never
            known = known and not any(f"{own}.".startswith(f"{plain}.") for own in self._own)
            self._twins[plain] = self._lowering.tree.stock(plain) if known else None
        return self._twins[plain]

    def _stock(self, path: str, twin: Twin, frames: tuple[Frame, ...]) -> Stock | None:
        plain, _, count = path.partition("@")
        calls = self._traced.calls.get(plain, ())
        i = int(count) if count else 0
        if i >= len(calls) or not calls[i].arguments or not calls[i].results:
            return None
        return Stock(plain, twin, calls[i], frames)

    def _closed(self, stock: Stock) -> bool:
        """Whether only the recorded results leave the layer, and only its arguments enter."""
        names = {node.name for node in stock.nodes}
        stock.call = _reading_packed(stock)
        if not set(stock.call.results) <= names:  # torch.export renamed them
            exits = [n.name for n in stock.nodes if not any(u.name in names for u in n.users)]
            if len(exits) == len(stock.call.results):
                self._renamed.update(zip(stock.call.results, exits, strict=True))
                stock.call = Call(stock.call.arguments, tuple(exits), stock.call.options)
        given = (v if isinstance(v, tuple) else (v,) for v in stock.call.arguments.values())
        entering = {self._current(name) for names in given for name in names if name}
        for node in stock.nodes:
            written = _writes_to(node)
            if written is not None and written.name not in names:
                stock.writes.append(written)
            for source in node.all_input_nodes:
                inside = source.name in names or source.op in ("placeholder", "get_attr")
                inside |= not _is_array(source)  # a size
                if not inside and source.name not in entering:
                    return False
            leaves = any(user.name not in names for user in node.users)
            if leaves and node.name not in stock.call.results:
                if _is_array(node) or any(_is_array(n) for n in node.all_input_nodes):
                    return False
                stock.sizes.append(node)  # torch.export computes a length once for all layers
        held = all(name in names for name in stock.call.results)
        return held and _with_what_they_need(stock.sizes, names)

    def _current(self, name: str) -> str:
        """The graph's name of a node that was recorded as an argument."""
        return self._renamed.get(name) or self._lowering.alias(name)

    def absorbs(self, node: Any) -> bool:
        """Whether a node is part of a stock layer's call, which is lowered when first met."""
        stock = self._by_node.get(node)
        if stock is None or node in stock.sizes:
            return False
        if not stock.done:
            stock.done = True
            if not self._lower(stock, node):
                self._forget(stock)
                return False
        return True

    def _lower(self, stock: Stock, node: Any) -> bool:
        storage, b = self._lowering.storage, self._lowering.builder
        named = self._lowering.named
        asked = stock.call.arguments
        places = {name: self._places(source) for name, source in asked.items()}
        if any(p not in storage for found in places.values() for p in found if p is not None):
            return False
        held = {n for part in stock.nodes for n in part.all_input_nodes if n.op == "placeholder"}
        if any(storage.changed(weight) for weight in held if weight in storage):
            return False  # it does not compute with the weights that it has
        b.scope, b.name, b.line = stock.frames, "", ""
        mark = len(b.nodes)
        try:
            given = {name: self._given(source, places[name]) for name, source in asked.items()}
            results = self._apply(stock, given)
        except (ValueError, TypeError, RuntimeError, IndexError, Torch2MLXError, Refuse):
            del b.nodes[mark:]
            return False
        graph = self._names(node.graph)
        for name, result in zip(stock.call.results, results, strict=True):
            b.line = where_of(graph[name])
            expected = graph[name].meta.get("val")
            shape, dims = hints(expected)
            if shape is not None and result.shape != shape:
                del b.nodes[mark:]
                return False
            self._lowering.learn(result, dims)
            if not result.origin:
                learn(result, origin=name)
            storage.set(graph[name], result)
            named[name] = graph[name]
        for place in stock.writes[:1]:
            if len(results) == 1 and storage.get(place).shape == results[0].shape:
                storage.write(place, results[0])
        self.used[stock.path] = stock.twin
        return True

    def _places(self, source: Any) -> list[Any]:
        """Graph nodes of an argument, as the recorder named it; None for a part that is not."""
        names = source if isinstance(source, tuple) else (source,)
        named = self._lowering.named
        return [None if name is None else named.get(self._current(name), "") for name in names]

    def _given(self, source: Any, places: list[Any]) -> Any:
        """The value of an argument."""
        storage = self._lowering.storage
        values = tuple(None if place is None else storage.get(place) for place in places)
        if isinstance(source, Parts):
            return whole(self._lowering.builder, values)
        return values if isinstance(source, tuple) else values[0]

    def _names(self, graph: Any) -> Mapping[str, Any]:
        if graph not in self._nodes:
            self._nodes[graph] = {node.name: node for node in graph.nodes}
        return self._nodes[graph]

    def _apply(self, stock: Stock, arguments: Mapping[str, Node]) -> tuple[Node, ...]:
        """The layer on its arguments: channels move to the end and back where it wants that."""
        b, last = self._lowering.builder, stock.twin.layout == "channels_last"
        given = dict(arguments)
        if last:
            self._check_batched(stock, given)
            given = {name: to_last(b, x) for name, x in given.items()}
        module = self._module(stock.path)
        if len(given) == 1:
            args, kwargs = tuple(given.values()), {}
        else:
            args, kwargs = tuple(given.values())[:1], dict(list(given.items())[1:])
        kwargs = _by_their_names(kwargs, self._modules[stock.path], module)
        kwargs = {**kwargs, **_options(module, stock.call.options)}
        plain = {name: replace(x, lambda n: n.value) for name, x in kwargs.items()}
        value = module(*(x.value for x in args), **plain)
        word = _word(stock.twin)
        tree = self._lowering.tree
        owner = tree.owner(tree.canonical(stock.path))
        callee = b.add(Node("module", (stock.path, owner), {}, word))
        node = b.add(Node("layer", (callee, *args), kwargs, value))
        parts = _flatten(b, node)
        wanted = len(stock.call.results)
        if len(parts) < wanted:
            raise ValueError("fewer results than torch gives")
        parts = parts[:wanted]
        return tuple(to_first(b, part) if last else part for part in parts)

    def _check_batched(self, stock: Stock, given: Mapping[str, Node]) -> None:
        module = self._modules[stock.path]
        try:
            rank = rank_of(module)
        except (ValueError, StopIteration, IndexError):
            return
        if any(x.ndim not in (2, rank + 2) for x in given.values()):
            raise ValueError("without a batch axis")

    def _module(self, path: str) -> Any:
        if path not in self._made:
            module = self._modules[path]
            self._made[path] = layer_of(module, path, self._twin(path))
            self._made[path].train(module.training)
            dtype = common_dtype(module)
            if dtype is not None:
                self._made[path].set_dtype(dtype)
        return self._made[path]


def _reading_packed(stock: Stock) -> Call:
    """The call with the parts of a packed sequence by the names that its operator reads them by:
    torch.export gives others to those whose lengths the data decides."""
    call, read = stock.call, next((n for n in stock.nodes if reads_packed(n.target)), None)
    if read is None:
        return call
    parts = Parts(None if part is None else part.name for part in read.args[:4])
    given = {n: parts if isinstance(v, Parts) else v for n, v in call.arguments.items()}
    return replaced(call, arguments=given)


def _with_what_they_need(sizes: list[Any], names: Collection[str]) -> bool:
    """Adds to lengths what they are computed from in a layer; whether none of that is an array."""
    for node in sizes:  # which grows
        inner = [n for n in node.all_input_nodes if n.name in names and n not in sizes]
        if any(map(_is_array, inner)):
            return False
        sizes += inner
    return True


def _is_array(node: Any) -> bool:
    return hasattr(node.meta.get("val"), "dtype")


def _by_their_names(given: dict[str, Any], layer: Any, module: Any) -> dict[str, Any]:
    """Arguments under the names of the MLX layer, where torch has another for the same place."""
    theirs = list(inspect.signature(layer.forward).parameters)
    ours = list(inspect.signature(type(module).__call__).parameters)[1:]
    same = dict(zip(theirs, ours, strict=False))
    return {name if name in ours else same.get(name, name): x for name, x in given.items()}


def _options(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that were no tensors, where the layer takes them and they are not its defaults."""
    known = inspect.signature(type(module).__call__).parameters
    return {
        name: value
        for name, value in given.items()
        if name in known and known[name].default != value
    }


def _word(twin: Twin) -> str | None:
    """What passes want to know of a stock layer: whether it treats every item alike, or raises an
    error for a last axis of another width than its weights have."""
    kind = twin.path.rsplit(".", 1)[-1]
    if twin.itemwise:
        return "elementwise"
    return "product" if kind in PRODUCTS else None


def _flatten(b: Any, node: Node) -> list[Node]:
    if node.is_array:
        return [node]
    if is_packed(node.value):
        return [b.call("attribute.data", node)]
    found = []
    for i, part in enumerate(node.value):
        if part is not None:
            found += _flatten(b, b.item(node, i))
    return found


def to_last(b: Any, x: Node) -> Node:
    """(N, C, *spatial) -> (N, *spatial, C)."""
    return b.transpose(x, last_order(x.ndim)) if x.ndim > 2 else x


def to_first(b: Any, x: Node) -> Node:
    """(N, *spatial, C) -> (N, C, *spatial)."""
    return b.transpose(x, first_order(x.ndim)) if x.ndim > 2 else x


def _writes_to(node: Any) -> Any:
    target = node.target
    if assigns(target):
        return node.args[0]
    return written_by(target, node) if type(target).__name__ == "OpOverload" else None
