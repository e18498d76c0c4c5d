"""The state of a lowering, and what becomes of one node of the exported program."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any

from torch2mlx.errors import Code, Unsupported
from torch2mlx.export.capture.schemas import (
    aliases,
    assigns,
    expected_of,
    flat,
    name_of,
    shows,
    turns_in_place,
    written_by,
    written_out,
)
from torch2mlx.export.capture.trace import Traced, placeholder_names
from torch2mlx.export.ir.builder import Builder, Refuse, Unmade
from torch2mlx.export.ir.name_allocator import usable
from torch2mlx.export.ir.nodes import Frame, Node, learn
from torch2mlx.export.ir.provenance import hints, scope_of, where_of
from torch2mlx.export.ir.source_names import Names
from torch2mlx.export.lower import custom_functions as custom
from torch2mlx.export.lower import higher_order, statistics
from torch2mlx.export.lower import power_iteration as iteration
from torch2mlx.export.lower.autocast import autocast
from torch2mlx.export.lower.functionalize import Storage, View
from torch2mlx.export.lower.module_tree import Tree
from torch2mlx.export.lower.ops import find_lowering
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.lower.singular import selecting
from torch2mlx.export.lower.stock_layers import Layers
from torch2mlx.export.lower.trainable import Trainable

#: Arguments of operators that say where memory lies, which MLX decides for itself.
_PLACEMENT = ("device", "layout", "pin_memory", "non_blocking", "memory_format", "generator")
#: What a call of MLX with arguments that it does not take may raise.
_FAILURES = (
    *(ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError, SystemError),
    *(ZeroDivisionError, OverflowError),
)
_NUMBERS = {
    "sym_ite": "builtin.choose",
    "sym_max": "builtin.max",
    "sym_min": "builtin.min",
    "sym_float": "builtin.float",
    "sym_int": "builtin.int",
    "round": "builtin.round",
    "abs": "builtin.abs",
    "sym_not": "operator.not_",
    "_sym_sqrt": "math.sqrt",
}


class Lowering:
    """The state of one lowering: values by node name, what could not be lowered."""

    def __init__(self, traced: Traced, stored: Stored) -> None:
        self.traced, self.stored = traced, stored
        self.tree = stored.tree = Tree(traced.model, stored.plan.ties, stored.kept)
        self.builder = Builder()
        self.storage = Storage(self.builder, Trainable(stored))
        self.selecting = selecting(traced.program.graph_module)
        self.layers = Layers(traced, self)
        self.names = Names()
        #: graph nodes by name; of nested graphs with one name, the one lowered last
        self.named: dict[str, Any] = {n.name: n for n in traced.program.graph.nodes}
        self.refused: list[Unsupported] = []
        self.autocast = False
        #: the modules that run a nested graph, whose own nodes do not say so
        self.around: tuple[Frame, ...] = ()
        self._taken: set[str] = set()
        self.placeholders = placeholder_names(traced)

    def unique(self, name: str) -> str:
        """A name for a function of the file."""
        made = usable(name, self._taken)
        self._taken.add(made)
        return made

    def alias(self, name: str) -> str:
        """The graph's name of a node that the recorder knew as `argN_1`, a placeholder."""
        return self.placeholders.get(name, name)

    def same(self, name: Any, other: Any) -> None:
        """Makes one graph node show the memory of another."""
        view = View(other, lambda value: value, "same")
        self.storage.set_view(name, self.storage.get(other), view)

    def learn(self, node: Node, dims: Any) -> None:
        """Tells a node its symbolic shape; and one that it turns, its own."""
        if dims is None or node.dims is not None:
            return
        learn(node, dims=dims)
        if node.op == "method.transpose":
            inner, *axes = node.args
            self.learn(inner, tuple(dims[axes.index(i)] for i in range(len(axes))))

    def run(self, graph: Any, module: Any) -> tuple[Any, ...]:
        """Lowers all nodes of a graph; gives the values of its output node."""
        for node in graph.nodes:
            if node.op == "output":
                return () if self.refused else tuple(self.value(a) for a in flat(node.args[0]))
            self._node(node, module)
        return ()

    def value(self, argument: Any) -> Any:
        """An argument of a graph node, with lowered values for nodes."""
        if type(argument).__module__ == "torch.fx.node" or hasattr(argument, "users"):
            if argument not in self.storage:
                raise Unmade(f"depends on {argument.target}, which could not be lowered")
            return self.storage.get(argument)
        if isinstance(argument, (list, tuple)):
            return tuple(self.value(item) for item in argument)
        if isinstance(argument, slice):
            parts = (argument.start, argument.stop, argument.step)
            return slice(*(self.value(part) for part in parts))
        if isinstance(argument, dict):
            return {key: self.value(item) for key, item in argument.items()}
        kind = type(argument).__name__
        if kind == "dtype":
            return self.stored.dtype(argument)
        if kind in ("device", "layout", "memory_format"):
            return None
        return argument

    def _node(self, node: Any, module: Any) -> None:
        self.named[node.name] = node
        if node.op == "placeholder" or self.layers.absorbs(node):
            return
        if node.op == "get_attr":
            self.storage.set(node, self._attribute(node, module))
            return
        b = self.builder
        b.scope, b.line = self._scope(node), where_of(node)
        b.name = ""
        try:
            self._call(node)
        except Refuse as problem:
            if not (isinstance(problem, Unmade) and self.refused):  # told where it was refused
                self._refuse(node, problem)
        except _FAILURES as problem:
            self._refuse(node, Refuse(f"{type(problem).__name__}: {problem}", Code.ERROR))

    def _refuse(self, node: Any, problem: Refuse) -> None:
        path = (
            ".".join(f for f in (frame.path for frame in self.builder.scope[-1:]) if f) or "model"
        )
        line = f" ({self.builder.line})" if self.builder.line else ""
        told = problem.at(f"{node.target} in {path}{line}")
        self.refused.append(replace(told, detail=told.detail.splitlines()[0][:300]))

    def _attribute(self, node: Any, module: Any) -> Any:
        found: Any = module
        for part in node.target.split("."):
            found = getattr(found, part)
        if hasattr(found, "graph"):
            return found
        self.builder.scope = scope_of(node)
        return self.stored.constant(self.builder, node.target, found)

    def _call(self, node: Any) -> None:
        target = node.target
        if custom.is_custom(target):
            custom.lower(self, node, self.traced.functions)
        elif assigns(target):
            self.value(node.args[:2])  # none that could not be lowered
            self.storage.assign(*node.args[:2])
        elif type(target).__name__ == "OpOverload":
            self._operator(node, target)
        elif type(target).__module__ == "torch._higher_order_ops" or hasattr(target, "namespace"):
            self._higher_order(node, target)
        elif target is operator.getitem:
            self._getitem(node)
        else:
            self._number(node, target)

    def _getitem(self, node: Any) -> None:
        parts, i = node.args
        operand = higher_order.operand_of(self.storage, parts, i) if self.layers.mutating else None
        if operand is not None:
            self.same(node, operand)
            return
        whole = self.value(parts)
        picked = self.builder.item(whole, i) if isinstance(whole, Node) else whole[i]
        self._result(node, picked)
        maker = parts.target
        if type(maker).__name__ == "OpOverload" and aliases(maker):
            name = name_of(maker)
            arguments = self._bound(parts, maker)
            function = find_lowering(name, maker._overloadname)
            base = parts.args[0]
            assert function is not None

            def remake(value: Node) -> Node:
                rest = {**arguments, next(iter(arguments)): value}
                made = function(self.builder, **rest)
                return self.builder.item(made, i) if isinstance(made, Node) else made[i]

            view = View(base, remake, "part")
            self.storage.set_view(node, self.storage.get(node), view)

    def _number(self, node: Any, target: Any) -> None:
        """Arithmetic on sizes."""
        args = tuple(a for a in self.value(node.args) if a is not None)  # round(length, None)
        name = getattr(target, "__name__", str(target))
        if not any(isinstance(a, Node) for a in args):
            self.storage.set(node, target(*args))
            return
        if name in _NUMBERS:
            op = _NUMBERS[name]
        elif hasattr(operator, name):
            op = f"operator.{name}"
        elif hasattr(math, name):
            op = f"math.{name}"
        else:
            raise Refuse("a function of sizes that is not known")
        result = self.builder.call(op, *args)
        if not result.origin:
            learn(result, origin=node.name)
        self.storage.set(node, result)

    def _bound(self, node: Any, target: Any) -> dict[str, Any]:
        """Arguments by the names of the schema, defaults filled in."""
        schema = target._schema.arguments
        given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
        bound = {}
        for argument in schema:
            if argument.name in _PLACEMENT or written_out(argument, node):
                continue
            if argument.name in given:
                bound[argument.name] = self.value(given[argument.name])
            elif argument.has_default_value():
                bound[argument.name] = self.value(argument.default_value)
        return bound

    def _operator(self, node: Any, target: Any) -> None:
        name, overload = name_of(target), target._overloadname
        function = find_lowering(name, overload)
        if function is None and name.endswith("_copy"):  # views that are not
            function = find_lowering(name.removesuffix("_copy"), overload)
        written = written_by(target, node)
        if function is None and written is not None and name.endswith("_"):
            function = find_lowering(name[:-1], overload)
        if function is None:
            raise Refuse(
                f"no lowering; give one with @torch2mlx.lowers({name!r}), or change the model",
                Code.NO_LOWERING,
            )
        arguments = self._bound(node, target)
        if self.autocast:
            arguments = autocast(self.builder, node, arguments)
        b = self.builder
        b.training = self._mode(node)
        b.selecting = node in self.selecting
        b.dtype, b.shape = expected_of(node)
        b.dtype = b.dtype and self.stored.dtype(b.dtype)
        b.source = node
        moving = statistics.moving(self, node)
        if moving is not None:
            return statistics.lower(self, node, arguments, moving)
        result = function(b, **arguments)
        if result is None:
            return
        result = self._result(node, result)
        if written is not None and turns_in_place(target):
            self._view(node, target, function, arguments, result)
        elif written is not None:
            self._write(node, written, result)
        elif self.layers.mutating and isinstance(result, Node) and shows(node, target):
            self._view(node, target, function, arguments, result)

    def _scope(self, node: Any) -> tuple[Frame, ...]:
        return scope_of(node) or self.around

    def module_of(self, node: Any) -> Any:
        """The module whose forward runs a graph node; None when unknown."""
        scope = self._scope(node)
        return self.tree.modules.get(scope[-1].path.split("@")[0]) if scope else None

    def _mode(self, node: Any) -> bool:
        """Whether the module that runs a graph node is in training."""
        module = self.module_of(node)
        return bool(self.traced.model.training if module is None else module.training)

    def _write(self, node: Any, written: Any, result: Any) -> None:
        """Overwrites what an operator in place writes to, and gives that back as its result."""
        if isinstance(result, tuple):
            raise Refuse("it writes to several tensors")
        current, b = self.storage.get(written), self.builder
        if result is not current:
            result = b.cast(result, current.dtype) if isinstance(current, Node) else result
            if isinstance(current, Node) and result.shape != current.shape:
                result = b.call("mx.broadcast_to", result, b.dims(current))
            self.storage.write(written, iteration.in_training(self, written, result))
        self.same(node, written)

    def _view(self, node: Any, target: Any, function: Any, arguments: Any, result: Node) -> None:
        """Remembers that a result shows its first argument's memory."""
        copies = name_of(target) in ("aten::to", "aten::contiguous")
        if copies and result is not self.value(node.args[0]):
            return
        first = next(iter(arguments))

        def remake(value: Node) -> Node:
            made: Node = function(self.builder, **{**arguments, first: value})
            return made

        view = View(node.args[0], remake, name_of(target).removesuffix("_"), arguments)
        self.storage.set_view(node, result, view)

    def _result(self, node: Any, result: Any) -> Any:
        """A result checked against what torch says of it: shape, and dtype, cast when it
        differs."""
        expected = node.meta.get("val")
        result = self._checked(expected, result)
        if isinstance(result, Node) and not result.origin:
            learn(result, origin=node.name, name=self.names.of(node))
        self.storage.set(node, result)
        return result

    def _checked(self, expected: Any, result: Any) -> Any:
        if isinstance(expected, (tuple, list)):
            if isinstance(result, Node):
                result = self.builder.items(result)
            pairs = zip(expected, result, strict=True)
            return tuple(self._checked(e, r) for e, r in pairs)
        if not hasattr(expected, "dtype") or not isinstance(result, Node) or not result.is_array:
            return result
        wanted = self.stored.dtype(expected).replace("complex128", "complex64")
        shape, dims = hints(expected)
        if shape is not None and result.shape != shape:
            told = f"MLX gives shape {result.shape} where torch gives {shape}"
            raise Refuse(told, Code.SHAPE)
        if result.dtype != wanted.replace("bool", "bool_") and result.dtype != wanted:
            result = self.builder.cast(result, wanted)
        self.learn(result, dims)
        return result

    def _higher_order(self, node: Any, target: Any) -> None:
        higher_order.lower(self, node, str(getattr(target, "_name", target)))
