"""What a forward asks of the ranks and dtypes of tensors while it is traced.

The program has one answer to each such question. Questions of torch's own code do not count, nor
do those that read a length or that cast.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.capture.code_positions import file_tree, path_to
from torch2mlx.export.capture.kind_uses import Use, use_of
from torch2mlx.export.capture.patched import read_through, replaced

#: Attributes and methods of tensors, and what they tell.
_TENSORS = {
    **{name: "rank" for name in ("dim", "ndim", "ndimension")},
    **{name: "shape" for name in ("shape", "size")},
    **{name: "dtype" for name in ("dtype", "is_floating_point", "is_complex", "is_signed")},
    **{name: "dtype" for name in ("type", "itemsize", "element_size")},
}
_FUNCTIONS = ("is_floating_point", "is_complex", "is_signed")
#: Classes of tensors that tell a dtype.
_CLASSES = tuple(
    f"{kind}Tensor"
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte", "Bool")
)


@dataclass(frozen=True)
class Question:
    """One question: "rank" or "dtype", the line, the name of the graph's node that was asked
    about ("" where it has none), and whether something is decided by the answer."""

    kind: str
    line: str
    node: str
    decides: bool


@dataclass
class Kinds:
    """The questions of one trace."""

    asked: dict[Question, None] = field(default_factory=dict)
    _uses: dict[Any, Use] = field(default_factory=dict)

    def note(self, frame: Any, kind: str, node: Callable[[], str | None]) -> None:
        """Notes a question that code other than torch's asks."""
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module in ("torch", "torch2mlx", "functorch"):
            return
        place = (frame.f_code, frame.f_lasti, kind)
        use = self._uses.get(place)
        if use is None:
            path = path_to(frame)
            use = self._uses[place] = use_of(path, kind) if path else Use.DECIDES
        if use is Use.NONE or (kind == "dtype" and use is not Use.DECIDES):
            return
        line = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        told = "dtype" if kind == "dtype" else "rank"
        self.asked.setdefault(Question(told, line, node() or "", use is Use.DECIDES))


@contextmanager
def asked_kinds(node_of: Callable[[Any], str | None]) -> Iterator[Kinds]:
    """While open, questions are noted; `node_of` gives the graph's node of a tensor."""
    import torch

    kinds = Kinds()
    with ExitStack() as stack:
        for name, kind in _TENSORS.items():
            stack.enter_context(_attribute(torch.Tensor, name, kind, kinds, node_of))
        for name in _FUNCTIONS:
            stack.enter_context(_function(torch, name, kinds, node_of))
        yield kinds


def _attribute(owner: Any, name: str, kind: str, kinds: Kinds, node_of: Any) -> Any:
    def read(held: Any, answer: Callable[[], Any], frame: Any) -> Any:
        kinds.note(frame, kind, lambda: node_of(held))
        return answer()

    return read_through(owner, name, read)


def _function(module: Any, name: str, kinds: Kinds, node_of: Any) -> Any:
    original = getattr(module, name)

    def asking(tensor: Any) -> Any:
        kinds.note(sys._getframe(1), "dtype", lambda: node_of(tensor))
        return original(tensor)

    return replaced(module, name, asking)


@dataclass(frozen=True)
class Asked:
    """A question about what some arguments decide: see Question; `ways` are those to the
    arguments."""

    kind: str
    line: str
    ways: tuple[Any, ...]
    decides: bool


def asked_of(kinds: Kinds, program: Any, ways: Any, aliases: Mapping[str, str]) -> Iterator[Asked]:
    """The questions of a trace by the arguments that they are about, `ways` in the order of the
    program's; those about parameters alone are none. `aliases` are names that the trace had for
    arguments."""
    nodes = {node.name: node for node in program.graph.nodes}
    places = [node for node in program.graph.nodes if node.op == "placeholder"]
    pairs = zip(program.graph_signature.input_specs, places, strict=True)
    given = [node for spec, node in pairs if spec.kind.name == "USER_INPUT"]
    known = dict(zip(given, ways, strict=True))
    for question in kinds.asked:
        node = nodes.get(aliases.get(question.node, question.node))
        roots = known if node is None else _roots(node)
        found = tuple(way for place, way in known.items() if place in roots)
        if found:
            yield Asked(question.kind, question.line, found, question.decides)


def _roots(node: Any) -> set[Any]:
    """The nodes that one is computed from, itself among them."""
    found, waiting = {node}, [node]
    while waiting:
        more = set(waiting.pop().all_input_nodes) - found
        found |= more
        waiting += more
    return found


def untried(asked: Sequence[Asked]) -> tuple[str, ...]:
    """What there is to note of questions that decide something, where no other kinds are tried."""
    lines = dict.fromkeys(one.line for one in asked if one.decides and one.line)
    if not lines:
        return ()
    told = "the forward decides by ranks or dtypes, others than the example's were not tried"
    return (f"{told}: {', '.join(lines)}",)


def names_dtypes(model: Any) -> bool:
    """Whether a file of a model's asks `isinstance(x, torch.FloatTensor)` or the like, which
    nothing notes when it is asked."""
    kinds = {cls.__module__ for part in model.modules() for cls in type(part).__mro__}
    own = [name for name in kinds if name.partition(".")[0] not in ("torch", "builtins")]
    files = {getattr(sys.modules.get(name), "__file__", None) for name in own}
    return any(_asks_for_classes(file) for file in files if file)


@functools.lru_cache(maxsize=1024)
def _asks_for_classes(file: str) -> bool:
    tree = file_tree(file)
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call)) if tree else ()
    asking = [n for n in calls if getattr(n.func, "id", "") == "isinstance" and len(n.args) == 2]
    return any(getattr(n, "attr", "") in _CLASSES for c in asking for n in ast.walk(c.args[1]))
