"""Stored tensors of a model as the emitted file sees them: under the keys and layouts of
`convert`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch2mlx.catalog.weights.layout import Layout, parse
from torch2mlx.checkpoint.plan.forms import plan_of
from torch2mlx.checkpoint.plan.training import sources, trained
from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.export.capture.empty_weights import opened
from torch2mlx.export.capture.loose_tensors import loose
from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.ir.nodes import Node, Program
from torch2mlx.types import Checkpoint, Plan

#: Constants up to this many items are printed; larger ones are stored beside the weights.
LITERAL_ITEMS = 16
_limit: ContextVar[int] = ContextVar("limit", default=LITERAL_ITEMS)


@contextmanager
def printing(items: int) -> Iterator[None]:
    """Within it, constants up to so many items are printed in the files of models."""
    token = _limit.set(items)
    try:
        yield
    finally:
        _limit.reset(token)


@dataclass
class Stored:
    """Weights by torch's key -> the node that has torch's value; constants by name -> torch
    tensor."""

    model: Any
    tree: Any = None
    narrow: bool = False  # float64 of the program is float32
    visible: bool = False  # constants are parameters too, which any loader finds
    limit: int = field(default_factory=_limit.get)  # items of constants that are printed
    real: bool = False  # nodes hold the tensors' values, for programs whose shapes depend on data
    constants: dict[str, Any] = field(default_factory=dict)
    #: Buffers that torch does not save and that have a gradient: weights here, by key in the tree.
    leaves: dict[str, Any] = field(default_factory=dict)
    #: Constants that the model writes to, by their path in the tree.
    written: set[str] = field(default_factory=set)
    #: Stored arrays that are layers of experts in the file, and whether their last axes are turned.
    experts: dict[str, bool] = field(default_factory=dict)
    #: Modules of which the program reads a part of what MLX's layer holds as one.
    read: set[str] = field(default_factory=set)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _bare: dict[str, str] = field(default_factory=dict)  # constants -> the stored key they are of

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return opened(self.model)

    @property
    def kept(self) -> frozenset[str]:
        """Modules whose tensors are torch's own: both biases, what a weight is computed from."""
        return self._being_trained | self.read

    @cached_property
    def _being_trained(self) -> frozenset[str]:
        if not self.model.state_dict():
            return frozenset()
        assert self._checkpoint.tree is not None
        return trained(self._checkpoint.tree, self.model)

    def forget(self) -> None:
        """Starts anew: the program is lowered once more."""
        for kept in (self.constants, self.leaves, self.written, self._nodes, self._bare):
            kept.clear()

    def dtype(self, value: Any) -> str:
        """The name of the dtype that stands for torch's, "float32"; `value` is one, or has one."""
        name = _name(getattr(value, "dtype", value))
        return "float32" if self.narrow and name == "float64" else name

    @cached_property
    def plan(self) -> Plan:
        """What `convert` would write for the model; nothing for one without tensors."""
        if not self.model.state_dict():
            return Plan((), (), {}, ())
        return plan_of(self._checkpoint, self.kept)

    @cached_property
    def recipes(self) -> Mapping[str, tuple[Any, ...]]:
        """How each tensor of the state dict is had from the converted ones."""
        return {trace.key: trace.recipe for trace in self.plan.traces}

    @cached_property
    def _planned(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {piece.target: (piece.shape, piece.dtype) for piece in self.plan.pieces}

    @property
    def shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each converted tensor."""
        if not self.leaves:
            return self._planned
        return {**self._planned, **{k: _kind_of(v) for k, v in self.leaves.items()}}

    def zeros(self) -> dict[str, Any]:
        """Arrays in the shapes of the converted tensors; MLX makes them when they are read."""
        ties = self.plan.ties
        return {key: _abstract(*kind) for key, kind in self.shapes.items() if key not in ties}

    def in_layers(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays of stored names under those of the file's tree."""
        return {f"{k}.weight" if k in self.experts else k: v for k, v in arrays.items()}

    @cached_property
    def _trained(self) -> frozenset[str]:
        grown = {name for name, p in self.model.named_parameters() if p.requires_grad}
        return frozenset(p.target for p in self.plan.pieces if grown & set(p.sources))

    @cached_property
    def buffers(self) -> frozenset[str]:
        """Converted tensors that are buffers in torch, as they are."""
        names = {name for name, _ in self.model.named_buffers(remove_duplicate=False)}
        return frozenset(p.target for p in self.plan.pieces if names.issuperset(p.sources))

    @property
    def trained(self) -> frozenset[str]:
        """Converted tensors that a gradient goes to."""
        return self._trained | self.leaves.keys()

    def printed(self, name: str) -> bool:
        """Whether a constant stands in the file as a literal."""
        return name not in self.written and int(self.constants[name].numel()) <= self.limit

    def placeholder(self, b: Builder, spec: Any, program: Any) -> Any:
        """The value of a parameter, a buffer or a constant of the program."""
        kind = spec.kind.name
        if kind == "PARAMETER" or (kind == "BUFFER" and spec.persistent is not False):
            return self._stored(b, spec.target)
        if kind in ("BUFFER", "CONSTANT_TENSOR"):
            tensors = program.constants if spec.target in program.constants else None
            value = tensors[spec.target] if tensors else self.model.get_buffer(spec.target)
            if kind == "BUFFER" and self.model.get_buffer(spec.target).requires_grad:
                return self._leaf(b, spec.target, value)
            return self._unregistered(b, spec.target, value)
        raise Refuse(f"an input of kind {kind}")

    def _unregistered(self, b: Builder, key: str, value: Any) -> Any:
        """A tensor that is no parameter and no buffer: a weight where torch would train it."""
        found = loose(self.model, value) if self.model.training else ""
        if found and found == key and value.is_leaf:
            return self._leaf(b, key, value)
        if found:
            raise Refuse(
                f"{found} has a gradient and is no parameter, so it would be a constant here: "
                "make it an nn.Parameter of its module (an nn.ParameterList holds several), or "
                "compute it in forward; in eval mode it is a constant"
            )
        return self.constant(b, key, value)

    def _leaf(self, b: Builder, key: str, value: Any) -> Node:
        above, _, name = key.rpartition(".")
        target = ".".join(part for part in (self.tree.owner(above), name) if part)
        self.leaves[target] = value.detach()
        self._nodes[key] = self.param(b, target)
        return self._nodes[key]

    def constant(self, b: Builder, name: str, value: Any) -> Any:
        """An array that is no weight: a number, a literal, or stored beside the weights."""
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        if name in self._nodes:
            return self._nodes[name]
        if isinstance(value, torch._subclasses.FakeTensor):
            raise Refuse(
                "what a forward read through .data has no values in the strict tracer, which alone "
                "takes this model: read the tensor itself under torch.no_grad(), or x.detach()"
            )
        value = value.float() if self.narrow and value.dtype == torch.float64 else value
        key = self._key(name)
        self.constants[key] = value.detach()
        held = self.value(value) if self.real else _abstract(value.shape, _name(value.dtype))
        made = b.add(Node("constant", (key,), {}, held))
        self._nodes[name] = made
        return made

    def _key(self, name: str) -> str:
        """A constant's path in the emitted tree: its module's, and a name that is no
        parameter's."""
        above, _, last = name.rpartition(".")
        if above not in self.tree.modules:
            return f"{'' if self.visible else '_'}constant_{len(self.constants)}"
        parts = above.split(".")
        stock = (i for i in range(len(parts)) if self.tree.stock(".".join(parts[: i + 1])))
        inside = next(stock, None)
        if inside is not None and above:
            while inside and self.tree.kind(".".join(parts[:inside])) in ("list", "sequential"):
                inside -= 1  # a list has items only
            above, last = ".".join(parts[:inside]), "_".join((*parts[inside:], last))
        owner = self.tree.owner(above)
        name = last.lstrip("_") if self.visible else f"_{last.lstrip('_')}"
        return ".".join(part for part in (owner, name) if part)

    def _stored(self, b: Builder, key: str) -> Any:
        if key in self._nodes:
            return self._nodes[key]
        recipe = self.recipes.get(key)
        if recipe is None and key in self.tree.shared:
            return self._stored(b, self.tree.shared[key])
        if recipe is None or recipe[0] not in ("t", "l", "c", "a"):
            return self._without(b, key)
        made = self._from(b, key, recipe)
        self._nodes[key] = made
        return made

    def _without(self, b: Builder, key: str) -> Any:
        """A tensor that the converted ones do not give back: see `lost`."""
        owner, _, name = key.rpartition(".")
        made = self.constant(b, key, getattr(self.model.get_submodule(owner), name))
        self._bare[made.args[0]] = key
        return made

    def _from(self, b: Builder, key: str, recipe: tuple[Any, ...]) -> Any:
        if recipe[0] == "t":
            return self.param(b, recipe[1])
        if recipe[0] == "l":
            return self._laid(b, recipe)
        if recipe[0] == "c":
            parts = tuple(self.param(b, target) for target in recipe[1])
            return b.call("mx.concatenate", parts)
        return self._stored(b, recipe[1])

    def lost(self, used: Iterable[Node]) -> set[str]:
        """Modules that must keep torch's own tensors, since the nodes read a part of what MLX's
        layer holds as one: a bias of two, the g of a weight norm.

        Raises Refuse for a parameter that no such module has: it would be a constant.
        """
        read = {n.args[0] for n in used if n.op in ("constant", "update")}
        found = set()
        for key in (self._bare[name] for name in read if name in self._bare):
            if key in self._owners_of_sources:
                found.add(self._owners_of_sources[key])
            elif key in dict(self.model.named_parameters(remove_duplicate=False)):
                raise Refuse(f"the parameter {key} is read, and its layer's rule leaves it out")
        return found - self.kept

    @cached_property
    def iterated(self) -> frozenset[str]:
        """Vectors that spectral norms improve with every call in training, by torch's key."""
        records = self._checkpoint.tree.records.items() if self._checkpoint.tree else ()
        norms = ((p, f) for p, r in records for f in r.folds if f.how == "spectral_norm")
        return frozenset(f"{p}.{name}".lstrip(".") for p, f in norms for name in f.sources[1:])

    @cached_property
    def _owners_of_sources(self) -> dict[str, str]:
        assert self._checkpoint.tree is not None
        records = self._checkpoint.tree.records.items()
        return {f"{p}.{n}" if p else n: p for p, record in records for n in sources(record)}

    def keep(self, modules: set[str]) -> None:
        """Lets more modules keep torch's own tensors; the program is lowered once more."""
        self.read |= modules
        for name in ("plan", "recipes", "buffers", "_planned", "_trained"):
            self.__dict__.pop(name, None)
        self.forget()

    def keep_used(self, program: Program) -> None:
        """Forgets constants that nothing reads any more."""
        programs = [program, *(function.program for function in program.functions)]
        used = {n.args[0] for p in programs for n in p.nodes if n.op == "constant"}
        used |= {n.args[0] for n in program.nodes if n.op == "update"}
        self.constants = {k: v for k, v in self.constants.items() if k in used}
        used |= {n.args[0] for p in programs for n in p.nodes if n.op == "param"}
        self.leaves = {k: v for k, v in self.leaves.items() if k in used}

    def param(self, b: Builder, target: str) -> Node:
        """A converted tensor; of tied ones the one that is stored."""
        target = self.plan.ties.get(target, target)
        shape, dtype = self.shapes[target]
        held = self._piece(target) if self.real else _abstract(shape, dtype)
        return b.add(Node("param", (target,), {}, held))

    def _piece(self, target: str) -> Any:
        piece = next(p for p in self.plan.pieces if p.target == target)
        return loading.mlx_array(piece.load().dense()).reshape(piece.shape)

    def value(self, value: Any) -> Any:
        """A tensor of torch as an MLX array."""
        return loading.mlx_array(borrow("constant", value.detach()).load().dense()).reshape(
            value.shape
        )

    def _laid(self, b: Builder, recipe: tuple[Any, ...]) -> Node:
        """torch's layout of a tensor that `convert` stores in another."""
        return _turned(b, self.param(b, recipe[1]), parse(recipe[2]).inverse, recipe[3])

    def update(self, b: Builder, key: str, value: Node) -> None:
        """A buffer, or a weight, that the model writes to."""
        recipe = self.recipes.get(key)
        recipe = None if recipe is not None and recipe[0] == "s" else recipe
        if recipe is not None and recipe[0] not in ("t", "l"):
            raise Refuse(f"the model writes to {key}, which is a part of a tensor in MLX")
        if recipe is not None and recipe[0] == "l":
            value = _turned(b, value, parse(recipe[2]), recipe[3])
        if recipe is not None:
            target = self.plan.ties.get(recipe[1], recipe[1])
        else:  # a buffer that is not saved with the model, or left out by `convert`
            target = self._nodes[key].args[0]
            self.written.add(target)
        b.add(Node("update", (target, value), {}, None))


def _turned(b: Builder, node: Node, layout: Layout, sizes: Mapping[str, int]) -> Node:
    """A tensor in another layout; `sizes` are those of the layout's letters."""
    letters = [letter for group in layout.before for letter in group]
    if any(len(group) > 1 for group in layout.before):
        node = b.reshape(node, [sizes[letter] for letter in letters])
    after = [letter for group in layout.after for letter in group]
    node = b.transpose(node, [letters.index(letter) for letter in after])
    if any(len(group) > 1 for group in layout.after):
        node = b.reshape(node, layout.shape(sizes))
    return node


def _kind_of(value: Any) -> tuple[tuple[int, ...], str]:
    return tuple(value.shape), _name(value.dtype)


def _name(dtype: Any) -> str:
    return str(dtype).rsplit(".", 1)[-1]


def _abstract(shape: Any, dtype: str) -> Any:
    import mlx.core as mx

    names = {"bool": "bool_", "complex128": "complex64"}
    return mx.zeros(tuple(int(n) for n in shape), getattr(mx, names.get(dtype, dtype)))
