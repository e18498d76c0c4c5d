"""Front end: a live model becomes torch.export's undecomposed program, with the names of its
source.

The program is taken before decomposition: decomposing drops no_grad regions and turns detach into
an alias, which leaves outputs right and gradients wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import ExportError
from torch2mlx.export.capture.asked_kinds import Asked, asked_kinds, asked_of, names_dtypes
from torch2mlx.export.capture.assigned import assigned_buffers, traced_data
from torch2mlx.export.capture.autograd_functions import recorded
from torch2mlx.export.capture.calls import under_one_name
from torch2mlx.export.capture.cumulative import standing_in_for_none
from torch2mlx.export.capture.deeper_lines import deeper_lines
from torch2mlx.export.capture.dropped_demands import notes_of_dropped
from torch2mlx.export.capture.empty_weights import standing_in
from torch2mlx.export.capture.expand_vmap import without_vmap
from torch2mlx.export.capture.failures import quietly, untraceable
from torch2mlx.export.capture.freedom import Way, dynamic_shapes, twice
from torch2mlx.export.capture.guards import Lengths, lengths_of, watched
from torch2mlx.export.capture.kept_lengths import numbers_kept
from torch2mlx.export.capture.keywords import named_keywords
from torch2mlx.export.capture.known_branches import values_asked
from torch2mlx.export.capture.memory_asked import memory_asked
from torch2mlx.export.capture.own_operators import own_operators
from torch2mlx.export.capture.plain_answers import plain_answers
from torch2mlx.export.capture.scanned import shapes_without_steps
from torch2mlx.export.capture.sizes import ways_to
from torch2mlx.export.capture.structured import dataclasses_known
from torch2mlx.export.capture.tracing import in_branch, node_of, tracer
from torch2mlx.export.capture.unvalidated import without_validation


@dataclass(frozen=True)
class Call:
    """What one call of a module got and gave: argument name -> name of the graph's node, or
    several."""

    arguments: Mapping[str, Any]
    results: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # arguments that were no tensors
    #: arguments that were lengths, those of a tuple by their places: name, torch's own number
    numbers: tuple[tuple[str, Any], ...] = ()


class Parts(tuple[str | None, ...]):
    """Nodes of the four parts of a packed sequence; None for an order that it has not."""


@dataclass(frozen=True)
class Traced:
    """An exported program, the calls of its modules by path, and how it was made."""

    model: Any
    program: Any
    calls: Mapping[str, Sequence[Call]]
    inputs: tuple[tuple[Any, ...], ...]
    examples: Mapping[tuple[Any, ...], Any]
    dynamic: bool
    notes: tuple[str, ...] = ()
    functions: Mapping[str, Any] = field(default_factory=dict)  # autograd.Functions by operator
    lengths: Lengths = field(default_factory=Lengths)
    graded: bool = False  # whether it is what the model runs while gradients are recorded only
    asked: tuple[Asked, ...] = ()  # what the forward asks of ranks and dtypes
    #: paths of modules whose forward hooks change what the module answers
    hooked: frozenset[str] = frozenset()


@dataclass
class _Recorder:
    """Hooks that note which graph node each argument and result of a module is."""

    calls: dict[str, list[Call]] = field(default_factory=dict)
    pending: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: by path, how far the program and which nodes the results were before others' hooks ran
    unhooked: dict[str, list[Any]] = field(default_factory=dict)
    hooked: set[str] = field(default_factory=set)

    def before(self, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            if in_branch():
                return
            self.pending.setdefault(path, []).append(_arguments(module, args, kwargs))

        return hook

    def first(self, path: str) -> Any:
        """For before all other hooks that see the module's answer."""

        def hook(module: Any, args: Any, result: Any) -> None:
            if not in_branch():
                names = [_node_name(leaf) for leaf in _tensors(result)]
                self.unhooked.setdefault(path, []).append((_progress(), names))

        return hook

    def after(self, path: str) -> Any:
        def hook(module: Any, args: Any, result: Any) -> None:
            if in_branch():
                return
            arguments = self.pending[path].pop() if self.pending.get(path) else {}
            options, numbers = arguments.pop("", ({}, ()))
            names = [_node_name(leaf) for leaf in _tensors(result)]
            if self.unhooked.get(path) and self.unhooked[path].pop() != (_progress(), names):
                self.hooked.add(path)
            known = tuple(name for name in names if name is not None)
            results = known if len(known) == len(names) else ()
            self.calls.setdefault(path, []).append(Call(arguments, results, options, numbers))

        return hook


def _tensors(value: Any) -> list[Any]:
    """Tensors of a structure; of a packed sequence its items, for the rest stays as it is."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(value, is_leaf=_is_packed)
    leaves = [leaf.data if _is_packed(leaf) else leaf for leaf in leaves]
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _is_packed(value: Any) -> bool:
    from torch.nn.utils.rnn import PackedSequence

    return isinstance(value, PackedSequence)


def _arguments(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    import torch

    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for name, value in bound.items():
        flat = value.items() if isinstance(value, dict) else ((name, value),)
        for key, leaf in flat:
            if isinstance(leaf, (tuple, list)) and leaf:
                nodes = tuple(_node_name(x) if isinstance(x, torch.Tensor) else None for x in leaf)
                if _is_packed(leaf):
                    found[str(key)] = Parts(nodes)
                elif None not in nodes:
                    found[str(key)] = nodes
            node = _node_name(leaf) if isinstance(leaf, torch.Tensor) else None
            if node is not None:
                found[str(key)] = node
    plain = {n: v for n, v in bound.items() if isinstance(v, (bool, int, float, str))}
    return {**found, "": (plain, tuple(_numbers(bound)))}


def _numbers(bound: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments that are lengths."""
    import torch

    for name, value in bound.items():
        several = isinstance(value, (tuple, list))
        for i, leaf in enumerate(value if several else (value,)):
            if isinstance(leaf, torch.SymInt):
                yield f"{name}_{i}" if several else name, leaf


def _node_name(tensor: Any) -> str | None:
    """The graph's node of a tensor that is being traced; None when it has none."""
    node = node_of(tensor)
    return None if node is None else str(node.name)


def _progress() -> int:
    """How many nodes the program has so far."""
    at_work = tracer()
    return 0 if at_work is None else len(at_work.graph.nodes)


@contextmanager
def _recording(model: Any) -> Iterator[_Recorder]:
    recorder, handles = _Recorder(), []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(recorder.before(path), with_kwargs=True))
        if module._forward_hooks:
            handles.append(module.register_forward_hook(recorder.first(path), prepend=True))
        handles.append(module.register_forward_hook(recorder.after(path)))
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def trace(model: Any, args: Any, kwargs: Any, way: Way) -> Traced:
    """Exports a model in one way. Raises ExportError with torch's words, or NumbersAsked."""
    given = _apart((tuple(args), dict(kwargs)))
    args, kwargs = twice(given) if way.twice else given
    with (
        dataclasses_known(model, given),
        _recording(model) as recorder,
        recorded(way.own_gradients) as functions,
        values_asked(model, way.strict),
        standing_in(model),
        shapes_without_steps(),
        named_keywords(model, kwargs),
        watched() as watch,
        memory_asked(watch, way.strict) as memory,
        standing_in_for_none(model),
        traced_data(),
        asked_kinds(_node_name) as kinds,
        without_validation(),
        deeper_lines(),
        own_operators(),
        plain_answers(way.strict),
        quietly(),
        numbers_kept(way.kept or ()) as numbers,
    ):
        try:
            program = _exported(model, args, kwargs, way)
        except Exception as problem:  # torch.export raises what the model and it run into
            numbers.tell(way.kept)
            raise untraceable(model, [problem]) from problem
        numbers.tell(way.kept)
        examples = dict(ways_to(model, args, kwargs))
    leaves, calls = tuple(examples), {} if way.strict else recorder.calls
    notes = notes_of_dropped(model, program) if way.strict else memory.notes()
    known = (program, calls, leaves, examples, way.dynamic, notes, functions)
    lengths = _freed(lengths_of(program, leaves, watch), ways_to(model, *given), way)
    asked = _asked(model, program, kinds, leaves, way.strict)
    return Traced(model, *known, lengths, asked=asked, hooked=frozenset(recorder.hooked))


def _exported(model: Any, args: Any, kwargs: Any, way: Way) -> Any:
    """torch.export's program."""
    import torch

    shapes = {"dynamic_shapes": dynamic_shapes(model, args, kwargs, way)}
    own = _containers_apart((args, kwargs))
    with nullcontext() if way.strict else assigned_buffers(model):
        program = torch.export.export(model, *own, strict=way.strict, **shapes)
    without_vmap(program)
    under_one_name(model, program)
    return program


def _freed(lengths: Lengths, examples: Iterable[Any], way: Way) -> Lengths:
    """The lengths of a program. Raises ExportError where a batch of one, traced as two, is fixed at
    two: no call that the model is meant for would pass."""
    ones = {path for path, leaf in examples if tuple(getattr(leaf, "shape", ()))[:1] == (1,)}
    fixed = [axis for axis in lengths.axes if axis.way in ones and not (axis.number or axis.free)]
    if way.twice and fixed:
        asked = fixed[0].asked
        where = f": {asked.line}" if asked and asked.line else ""
        raise ExportError(f"a batch of one, traced as two, is fixed at two{where}")
    return lengths


def _asked(model: Any, program: Any, kinds: Any, ways: Any, strict: bool) -> tuple[Asked, ...]:
    """What a forward asks of ranks and dtypes; what nothing notes is taken to be asked of all."""
    found = list(asked_of(kinds, program, ways, _placeholder_names(program)))
    if strict:
        found.append(Asked("rank", "", ways, False))
    if strict or names_dtypes(model):
        found.append(Asked("dtype", "", ways, True))
    return tuple(found)


def _apart(values: Any) -> Any:
    """Example inputs as tensors of their own: one that is given twice would be one argument to
    torch.export, which leaves a mark on those whose lengths are free when it raises an error. Those
    without values, on the meta device, become zeros."""
    import torch
    from torch.utils import _pytree as pytree

    known: set[int] = set()

    def real(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.is_meta:
            return torch.zeros_like(leaf, device="cpu")
        again = id(leaf) in known
        known.add(id(leaf))
        own = leaf.detach().clone() if again else leaf.detach()
        return own.requires_grad_(leaf.requires_grad)

    return pytree.tree_map(real, values)


def _containers_apart(values: Any) -> Any:
    """Lists and dicts of their own with the same tensors: a forward may add to those it gets."""
    from torch.utils import _pytree as pytree

    return pytree.tree_map(lambda leaf: leaf, values)


def placeholder_names(traced: Traced) -> dict[str, str]:
    """What the recorder called an argument of the program -> the program's own name for it.

    Tensors that are no parameters or buffers of the model become arguments after the tracing only.
    """
    return _placeholder_names(traced.program)


def _placeholder_names(program: Any) -> dict[str, str]:
    specs = program.graph_signature.input_specs
    names = [n.name for n in program.graph.nodes if n.op == "placeholder"]
    pairs = zip(names, specs, strict=True)
    known = [name for name, spec in pairs if spec.kind.name != "CONSTANT_TENSOR"]
    return {f"arg{i}_1": name for i, name in enumerate(known)}
