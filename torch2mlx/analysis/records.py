"""A live module tree as the flat records that the C rules read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx import _core
from torch2mlx.analysis.facts import Fact, model_facts
from torch2mlx.analysis.flattening import flattened
from torch2mlx.catalog.layers import find_twin
from torch2mlx.catalog.layers.entry import class_name
from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.checkpoint.plan.questions import sensitive
from torch2mlx.checkpoint.plan.user_rules import untyped_records
from torch2mlx.errors import Code, Unsupported
from torch2mlx.types import ITEM_BYTES, TensorSource, source_bytes

MODULE = np.dtype(
    [
        *((name, np.uint32) for name in ("parent", "cls", "status", "flags")),
        *((name, np.uint64) for name in ("parameters", "bytes")),
    ]
)
FACT = np.dtype([(name, np.uint32) for name in ("cls", "kind", "line", "note")])
STATUSES = ("own", "container", "mapped", "kit", "unmapped", "refused", "custom")
FLAGS = {
    "uninitialized": 1,
    "hooks": 2,
    "shared": 4,
    "foreign_dtype": 8,
    "float64": 16,
    "transient_buffers": 32,
    "bare_tensors": 64,
    "untyped": 128,
    "flattened": 256,
    "written_out": 512,
}
NO_PARENT = 0xFFFFFFFF
_LARGEST = 2**63
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
_KINDS = {name: i for i, name in enumerate(_core.fact_kinds())}


@dataclass(frozen=True)
class Node:
    """A module for people: where it is, what it is, why it is refused."""

    path: str
    cls: str
    status: str
    parameters: int
    nbytes: int
    parent: int  # index, -1 for the root
    reason: str = ""


@dataclass(frozen=True)
class Tree:
    """Records for C, and what they stand for."""

    modules: np.ndarray[Any, Any]
    facts: np.ndarray[Any, Any]
    nodes: tuple[Node, ...]
    classes: tuple[str, ...]
    notes: tuple[Fact, ...]
    untyped: bool = False  # keys alone: the types of layers are not known


def _status(module: Any, is_root: bool) -> tuple[str, str]:
    """(status, reason)."""
    spec = lookup(type(module))
    asked = spec is None or not (spec.container or spec.transparent or _is_lazy(module))
    found = find_twin(module) if asked else None
    if isinstance(found, Unsupported) and found.code is not Code.OWN_FORWARD:
        return "refused", found.detail
    if spec is not None and (spec.container or spec.transparent):
        return "container", ""
    if spec is not None and spec.native:
        return "mapped", ""
    if found is not None and not isinstance(found, Unsupported):
        return "kit", ""
    name = class_name(type(module))
    if name.startswith("torch.nn.") and name != "torch.nn.Module":
        return "unmapped", ""
    if module._modules or is_root or name == "torch.nn.Module":
        return "own", ""
    return "custom", ""


def _is_written_out(module: Any) -> bool:
    """Whether translate writes down what a layer computes that has no twin."""
    return getattr(find_twin(module), "code", None) is not Code.NO_LOWERING


def _own_tensors(module: Any) -> Iterator[Any]:
    yield from (
        t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None
    )


def _is_lazy(module: Any) -> bool:
    """Whether a layer has no sizes yet: its options say nothing of what it will be."""
    return any(type(t).__name__.startswith("Uninitialized") for t in _own_tensors(module))


def _folding(hook: Any) -> bool:
    """Hooks of weight_norm, spectral_norm and pruning, which convert folds, and of lazy layers."""
    name = class_name(type(hook)) if not hasattr(hook, "__self__") else hook.__module__
    return name.startswith(("torch.nn.utils.", "torch.nn.modules.lazy"))


def _flags(module: Any, status: str, shared: bool) -> int:
    names: set[str] = set()
    hooks = (h for name in _HOOKS for h in getattr(module, name, {}).values())
    if any(not _folding(hook) for hook in hooks):
        names.add("hooks")
    if shared:
        names.add("shared")
    if module._non_persistent_buffers_set:
        names.add("transient_buffers")
    transient = {id(module._buffers.get(name)) for name in module._non_persistent_buffers_set}
    for tensor in _own_tensors(module):
        if type(tensor).__name__.startswith("Uninitialized"):
            names.add("uninitialized")
            continue
        dtype = str(tensor.dtype).removeprefix("torch.")
        names |= {"float64"} if dtype == "float64" else set()
        names |= {"foreign_dtype"} if dtype not in ITEM_BYTES else set()
        names |= {"bare_tensors"} if status == "own" and id(tensor) not in transient else set()
    return sum(FLAGS[name] for name in names)


def _size(module: Any, seen: set[int]) -> tuple[int, int]:
    """(numbers, bytes) of a module's own tensors, each counted once."""
    count = nbytes = 0
    for tensor in _own_tensors(module):
        if id(tensor) not in seen and not type(tensor).__name__.startswith("Uninitialized"):
            seen.add(id(tensor))
            count += tensor.numel()
            nbytes += tensor.numel() * tensor.element_size()
    return count, nbytes


def _walk(root: Any) -> Iterator[tuple[str, Any, int, bool]]:
    """(path, module, parent's index, seen before) in pre-order, parametrizations left out."""
    waiting, visited, index = [("", root, -1)], set(), 0
    while waiting:
        path, module, parent = waiting.pop()
        yield path, module, parent, id(module) in visited
        visited.add(id(module))
        children = [
            (f"{path}.{name}" if path else name, child, index)
            for name, child in module._modules.items()
            if child is not None and name != "parametrizations"
        ]
        waiting += reversed(children)
        index += 1


def _shared_tensors(root: Any) -> set[int]:
    """Tensors that more than one module holds."""
    holders: dict[int, set[int]] = {}
    for module in root.modules():
        for tensor in _own_tensors(module):
            holders.setdefault(id(tensor), set()).add(id(module))
    return {tensor for tensor, modules in holders.items() if len(modules) > 1}


def flatten(root: Any, lowered: frozenset[str] = frozenset()) -> Tree:
    """The records of a live module (on any device, meta included) and of its classes' source.

    `lowered`: the operators that translate has, as "aten::add"; without any, none is missed.
    """
    rows: list[tuple[int, ...]] = []
    nodes: list[Node] = []
    classes: dict[type, int] = {}
    first: dict[type, Any] = {}
    seen: set[int] = set()
    shared = _shared_tensors(root)
    traps = {row.path: row for row in flattened(root)}
    told = "; ".join(f"{row.path}: {row.reason}, {row.advice}" for row in traps.values())
    for path, module, parent, again in _walk(root):
        cls = classes.setdefault(type(module), len(classes))
        first.setdefault(type(module), module)
        status, reason = _status(module, parent < 0)
        both = again or any(id(t) in shared for t in _own_tensors(module))
        flags = _flags(module, status, both)
        if status == "refused" and _is_written_out(module):
            flags |= FLAGS["written_out"]
        if path in traps:
            flags, reason = flags | FLAGS["flattened"], told
        count, nbytes = _size(module, seen)
        up = NO_PARENT if parent < 0 else parent
        rows.append((up, cls, STATUSES.index(status), flags, count, nbytes))
        nodes.append(Node(path, type(module).__name__, status, count, nbytes, parent, reason))
    facts: list[tuple[int, ...]] = []
    notes: list[Fact] = []
    for kind, told_of in model_facts(root, first, lowered).items():
        for fact in told_of:
            facts.append((classes[kind], _KINDS[fact.kind], fact.line, len(notes)))
            notes.append(fact)
    return Tree(
        np.array(rows, MODULE),
        np.array(facts, FACT),
        tuple(nodes),
        tuple(class_name(kind) for kind in classes),
        tuple(notes),
    )


def flatten_checkpoint(tensors: Mapping[str, TensorSource], settled: bool = False) -> Tree:
    """The records that a checkpoint's keys show: sizes, and where layer types would be needed.

    `settled`: the layout of every tensor is known, though not the layers.
    """
    records = untyped_records(tensors)
    open_keys = set() if settled else set(sensitive(records, tensors))
    rows: list[tuple[int, ...]] = []
    nodes: list[Node] = []
    index: dict[str, int] = {}
    for path in sorted(records, key=lambda p: p.split(".") if p else []):
        keys = [f"{path}.{name}" if path else name for name in records[path].tensors]
        found = [key for key in keys if key in open_keys]
        # of a dtype that nobody knows a file may claim any number of items
        count = min(sum(math.prod(tensors[key].shape) for key in keys), _LARGEST)
        nbytes = sum(source_bytes(tensors[key]) for key in keys)
        flags = FLAGS["untyped"] if found else 0
        if any(tensors[key].dtype == "float64" for key in keys):
            flags |= FLAGS["float64"]
        if any(tensors[key].dtype not in ITEM_BYTES for key in keys):
            flags |= FLAGS["foreign_dtype"]
        parent = -1 if not path else index[path.rpartition(".")[0]]
        index[path] = len(rows)
        up = NO_PARENT if parent < 0 else parent
        rows.append((up, len(rows), STATUSES.index("own"), flags, count, nbytes))
        nodes.append(Node(path, "(type unknown)", "own", count, nbytes, parent, ", ".join(found)))
    return Tree(
        np.array(rows, MODULE),
        np.array([], FACT),
        tuple(nodes),
        tuple(node.path for node in nodes),
        (),
        untyped=True,
    )
