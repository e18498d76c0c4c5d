"""Branches on what a model itself holds: `if not self.initialized: self.initialize(x)`.

torch.export has no values, of buffers neither. A branch that buffers, and parameters that are not
trained, decide alone is traced as the model is now; that it still is so stays in the program as a
demand. A forward that changes what it branched on does so in its first call alone, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.demands import demand_of, demands_kept, is_open
from torch2mlx.export.capture.patched import replaced
from torch2mlx.export.capture.schemas import writes_of
from torch2mlx.export.capture.source_lines import calling_line
from torch2mlx.export.capture.tracing import node_of, tracer

#: Operators that are run to find what a branch depends on.
_MOST = 64
#: Operators that read a number from a tensor.
_READS = (["aten", "item"], ["aten", "_local_scalar_dense"])


class _Unknown(Exception):
    """What decides is not what the model holds, or not that alone."""


@dataclass
class Known:
    """What a model holds before it is traced, and what of it decided branches."""

    real: dict[str, Any]
    #: names by node of the program, and the tensors that stood for them when the forward began
    names: dict[Any, str] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    decided: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    asked: set[Any] = field(default_factory=set)

    def begin(self, model: Any, *_: Any) -> None:
        """Before the forward: which node of the program is which tensor."""
        at_work = tracer()
        if at_work is None:
            return
        self.held = _states(model)
        places = {n.name: n for n in at_work.graph.nodes}
        for name in self.real.keys() & self.held.keys():
            node = node_of(self.held[name])
            if node is not None and node.name in places:
                self.names[node] = name

    def end(self, model: Any, *_: Any) -> None:
        """After the forward: what of that it changed."""
        at_work, now = tracer(), _states(model)
        if at_work is None:
            return
        others = {name for name, held in self.held.items() if now.get(name) is not held}
        self.changed |= others | {self.names[n] for n in _written(at_work.graph) & set(self.names)}

    def refuse_changed(self) -> None:
        """Raises TranslationError where the forward changed what decided a branch."""
        for name, line in self.decided.items():
            if name in self.changed:
                raise TranslationError(
                    f"the forward branches on {name} ({line}), and changes it: later calls may do "
                    "what the first does not. Where that initializes the model, call it once with "
                    "data, and translate it then"
                )

    def decide(self, value: Any) -> bool | int | float | None:
        """What a tensor, or a truth made of its numbers, is in the model as it is; None where
        something else decides too."""
        try:
            found, leaves = self._evaluated(value)
        except _Unknown:
            return None
        line = calling_line()
        for name in leaves:
            self.decided.setdefault(name, line)
        asked = (tuple(sorted(leaves)), line, str(value), found)
        if asked not in self.asked:
            self.asked.add(asked)
            named = ", ".join(sorted({name.rpartition(".")[2] for name in leaves}))
            told = f"{named} has another value than when translated ({line})"
            demand_of(value, found, "ValueError", told)
        answer: bool | int | float = found
        return answer

    def _evaluated(self, value: Any) -> tuple[Any, set[str]]:
        import torch
        from torch.utils._python_dispatch import _disable_current_modes

        leaves: set[str] = set()
        node, at_work = None if isinstance(value, torch.SymBool) else node_of(value), tracer()
        with _disable_current_modes():  # what is run here is not traced
            if isinstance(value, torch.SymBool):
                return self._truth(value, at_work, leaves), leaves
            found = self._run(node, leaves, {})
            if not leaves or found.numel() != 1:
                raise _Unknown
            return found.item(), leaves

    def _truth(self, value: Any, at_work: Any, leaves: set[str]) -> bool:
        """A truth made of numbers that were read from tensors."""
        expression, found = value.node.expr, {}
        for node in at_work.graph.nodes if at_work else ():
            if str(node.target).split(".")[:2] not in _READS:
                continue
            read = getattr(getattr(node.meta.get("val"), "node", None), "expr", None)
            if read is not None and read.free_symbols & expression.free_symbols:
                found[read] = self._run(node, leaves, {})
        decided = expression.subs(found)
        if decided not in (True, False):
            raise _Unknown
        return bool(decided)

    def _run(self, node: Any, leaves: set[str], done: dict[Any, Any]) -> Any:
        """What a node of the program gives, made of what the model holds."""
        if node in done:
            return done[node]
        if node in self.names:
            leaves.add(self.names[node])
            done[node] = self.real[self.names[node]]
            return done[node]
        plain = node is not None and node.op == "call_function" and len(done) < _MOST
        schema = getattr(node.target, "_schema", None) if plain else None
        if schema is None or schema.is_mutable or node.target.namespace != "aten" or _draws(node):
            raise _Unknown
        import torch

        def inner(one: Any) -> Any:
            return self._run(one, leaves, done)

        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), inner)
        done[node] = node.target(*args, **kwargs)
        return done[node]


@contextmanager
def values_asked(model: Any, strict: bool) -> Iterator[None]:
    """While open, demands on values become operators of the program, and what a model holds decides
    branches that depend on it alone; not where the strict tracer, which reads Python itself, is at
    work. Raises TranslationError where the forward changed what decided a branch."""
    import torch

    if strict:
        with _truths_compared(), demands_kept():
            yield
        return
    known = Known({n: t for n, t in _states(model).items() if not t.is_meta})
    handles = (
        model.register_forward_pre_hook(known.begin),
        model.register_forward_hook(known.end),
    )
    try:
        with ExitStack() as stack:
            stack.enter_context(_truths_compared())
            for owner in (torch.Tensor, torch.SymBool):
                read = _deciding(known, owner.__bool__, bool)
                stack.enter_context(replaced(owner, "__bool__", read))
            for name, kind in (("__int__", int), ("__float__", float), ("__index__", int)):
                read = _deciding(known, getattr(torch.Tensor, name), kind)
                stack.enter_context(replaced(torch.Tensor, name, read))
            stack.enter_context(demands_kept())
            yield
        known.refuse_changed()
    finally:
        for handle in handles:
            handle.remove()


def _deciding(known: Known, original: Any, kind: type) -> Callable[[Any], Any]:
    """What asks for a truth or a number, and takes the model's own where torch has none."""

    def decided(value: Any) -> Any:
        asks = bool(known.names) and is_open(value)
        try:
            return original(value)
        except Exception:  # torch's, of many kinds: there is no value while it traces
            found = known.decide(value) if asks else None
            if found is None:
                raise
        return kind(found)

    return decided


@contextmanager
def _truths_compared() -> Iterator[None]:
    """`flag.item() == 0`: torch's truths, which are no numbers, would be unequal to all of them."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    def compared(name: str) -> Callable[[Any, Any], Any]:
        def compare(value: Any, other: Any) -> Any:
            if isinstance(other, (bool, int, float)) and free_unbacked_symbols(value):
                return getattr(bool(value), name)(other)
            return getattr(object, name)(value, other)

        return compare

    equal, unequal = compared("__eq__"), compared("__ne__")
    with replaced(torch.SymBool, "__eq__", equal), replaced(torch.SymBool, "__ne__", unequal):
        yield


def _states(model: Any) -> dict[str, Any]:
    """Buffers, and parameters that are not trained, by name."""
    fixed = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return {**dict(model.named_buffers()), **fixed}


def _draws(node: Any) -> bool:
    import torch

    return torch.Tag.nondeterministic_seeded in node.target.tags


def _written(graph: Any) -> set[Any]:
    """Nodes whose memory a program writes to."""
    found = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        for target in writes_of(node.target, node):
            while hasattr(target, "op"):
                found.add(target)
                target = target.args[0] if _shares(target) else None
    return found


def _shares(node: Any) -> bool:
    """Whether a node is a view of its first argument, or that argument after a write."""
    schema = getattr(node.target, "_schema", None)
    returns = schema.returns if node.op == "call_function" and schema is not None else ()
    return bool(node.args) and any(r.alias_info is not None for r in returns)
