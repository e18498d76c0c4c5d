"""Writing in place without writing: views re-read what they show, writes rebuild what is shown.

torch lets a slice be changed and every other view of the memory see it; MLX arrays are values. Each
tensor of the program is either a root or a view of another, by the operator that made it. A write
to a view makes a new value of its root; other views of that root are made again when they are read.
What is written where torch records nothing (under no_grad, or by way of a detached view) changes
the numbers of a tensor and leaves its gradient as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node

Remake = Callable[[Node], Node]


@dataclass
class View:
    """`remake` applies the view operator to a new value of `base`; `kind` and `options` name it."""

    base: Any  # the graph node of the tensor that is shown
    remake: Remake
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


class Storage:
    """Current values of the program's tensors by their graph nodes."""

    def __init__(self, builder: Builder, trainable: Callable[[object], bool]) -> None:
        self._builder, self._trainable = builder, trainable
        self.recording = True  # gradients; not under no_grad
        self._values: dict[Any, Any] = {}
        self._views: dict[Any, View] = {}
        self._versions: dict[Any, int] = {}
        self._assigned: set[Any] = set()

    def __contains__(self, node: Any) -> bool:
        return node in self._values

    def set(self, node: Any, value: Any) -> None:
        """A new tensor of its own."""
        self._values[node] = value

    def set_view(self, node: Any, value: Any, view: View) -> None:
        """A tensor that shows another."""
        view.version = self._versions.get(self.root(view.base), 0)
        self._values[node], self._views[node] = value, view

    def root(self, node: Any) -> Any:
        """The tensor that owns the memory."""
        while node in self._views:
            node = self._views[node].base
        return node

    def changed(self, node: Any) -> bool:
        """Whether the memory of a tensor has been written to, or is another now."""
        node = self._itself(node)
        return node in self._assigned or self._versions.get(self.root(node), 0) > 0

    def _itself(self, node: Any) -> Any:
        """The first name of a tensor that has several."""
        while node in self._views and self._views[node].kind == "same":
            node = self._views[node].base
        return node

    def assign(self, node: Any, source: Any) -> None:
        """`node.data = source`: the tensor shows the memory of another, and keeps its gradient.
        What showed its old memory goes on to show that."""
        node = self._itself(node)
        before, old = self.get(node), object()
        for view in self._views.values():
            if view.base is node and view.kind == "same":
                view.version = -1  # made again when it is read
            elif view.base is node:
                view.base = old
        self._values[old], self._versions[old] = before, self._versions.get(node, 0)
        if node in self._views:
            self._views[old] = self._views.pop(node)
        self._assigned.add(node)
        remake = partial(self._unrecorded, before)
        self.set_view(node, remake(self.get(source)), View(source, remake, "aten::detach"))

    def get(self, node: Any) -> Any:
        """The value now: a view whose root was written since is made again."""
        view = self._views.get(node)
        if view is not None:
            now = self._versions.get(self.root(node), 0)
            if view.version != now:
                self._values[node] = view.remake(self.get(view.base))
                view.version = now
        return self._values[node]

    def write(self, node: Any, value: Node) -> None:
        """Overwrites a tensor: itself, and what it is a view of."""
        chain = [node]
        while chain[-1] in self._views:
            chain.append(self._views[chain[-1]].base)
        before = [self.get(base) for base in chain]
        root = chain[-1]
        self._versions[root] = self._versions.get(root, 0) + 1
        recorded = self.recording
        for i, step in enumerate(chain):
            view = self._views.get(step)
            recorded = recorded and (view is None or view.kind != "aten::detach")
            self._values[step] = value if recorded else self._unrecorded(before[i], value)
            if view is not None:
                view.version = self._versions[root]
                value = _into(self._builder, before[i + 1], view, value)

    def _unrecorded(self, old: Node, value: Any) -> Any:
        """The new numbers with the old gradient."""
        if self._trainable(old):
            return self._builder.call("kit.training.overwritten", old, value)
        return self._builder.call("mx.stop_gradient", value) if self._trainable(value) else value

    def given_back(self, node: Any) -> Any:
        """The graph node that an operator in place wrote to and gave again; None of others."""
        view = self._views.get(node)
        return view.base if view is not None and view.kind == "same" else None


def _into(b: Builder, base: Node, view: View, value: Node) -> Node:
    """The base with what the view shows replaced."""
    rule = _WRITES.get(view.kind)
    if rule is not None:
        return rule(b, base, value, view.options)
    places = b.call("mx.arange", b.size(base, range(base.ndim)))
    shown = view.remake(b.reshape(places, b.dims(base)))
    flat = b.call("method.reshape", base, -1)
    where = (b.call("method.reshape", shown, -1),)
    written = b.call("kit.indexing.assign", flat, where, b.call("method.reshape", value, -1))
    return b.reshape(written, b.dims(base))


def _same(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    return value


def _shaped(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    if "dtype" in options:
        raise Refuse("it writes to numbers by way of their bytes, seen as another dtype")
    return b.reshape(value, b.dims(base))


def _select(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    axis = options["dim"] % base.ndim
    where = (*[slice(None)] * axis, options["index"])
    return b.call("kit.indexing.assign", base, where, value)


def _slice(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    axis, end = options["dim"] % base.ndim, options["end"]
    if isinstance(end, int) and end >= 2**31:
        end = None
    start = options["start"] or None
    step = options["step"] if options["step"] != 1 else None
    if start is end is step is None:
        return value
    part = slice(start, end, step)
    return b.call("kit.indexing.assign", base, (*[slice(None)] * axis, part), value)


def _swapped(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    return b.swap(value, options["dim0"], options["dim1"])


def _turned(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    return b.swap(value, 0, 1) if value.ndim == 2 else value


def _permuted(b: Builder, base: Node, value: Node, options: Mapping[str, Any]) -> Node:
    order = [d % value.ndim for d in options["dims"]]
    return b.transpose(value, [order.index(i) for i in range(len(order))])


_WRITES: dict[str, Callable[[Builder, Node, Node, Mapping[str, Any]], Node]] = {
    **{
        name: _same
        for name in ("same", "aten::alias", "aten::detach", "aten::contiguous", "aten::to")
    },
    **{name: _shaped for name in ("aten::view", "aten::reshape", "aten::unsqueeze")},
    **{name: _shaped for name in ("aten::squeeze", "aten::flatten", "aten::unflatten")},
    **{"aten::select": _select, "aten::slice": _slice},
    **{"aten::transpose": _swapped, "aten::permute": _permuted, "aten::t": _turned},
}
