"""A translation of a model without values, run on MLX's lazy arrays: nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.verify.comparing import equal, said, unlike_dtypes
from torch2mlx.export.verify.outputs import is_array, parts_of, turned
from torch2mlx.export.verify.running import Case

UNRUN = "the result was not run: its shapes depend on values, which a model on meta has not"


def shapes_fit(made: Any, traced: Any, case: Case) -> tuple[str, tuple[str, ...]]:
    """Builds the module with arrays that are never made, calls it, and compares the shapes of its
    answer with the exported program's: what was compared, and what there is to note.

    Raises TranslationError where names or shapes of weights or results differ.
    """
    import mlx.core as mx

    if made.reads_values:
        return "nothing", (UNRUN,)
    with mx.stream(mx.cpu):
        args, kwargs = made.ends.given(traced.model, *_real(case))
        answer = turned(parts_of(made.built(hollow=True)(*args, **kwargs)), made.ends)
    found, wanted = [part for part in answer if part[1] != ()], _exported(traced.program)
    if len(found) != len(wanted):
        raise TranslationError(f"torch gives {len(wanted)} outputs, MLX {len(found)}")
    wrong = [
        f"{name or 'output'}: torch gives {one}, MLX {other}"
        for (name, part), theirs in zip(found, wanted, strict=True)
        for one, other in _unlike(theirs, part)
    ]
    if wrong:
        raise TranslationError("; ".join(wrong[:5]))
    return "shapes", ()


def _real(case: Case) -> tuple[Any, Any]:
    """The inputs, zeros where they are on the meta device."""
    import torch
    from torch.utils import _pytree as pytree

    def real(leaf: Any) -> Any:
        empty = isinstance(leaf, torch.Tensor) and leaf.is_meta
        return torch.zeros_like(leaf, device="cpu") if empty else leaf

    args, kwargs = pytree.tree_map(real, (tuple(case.args), dict(case.kwargs)))
    return args, kwargs


def _exported(program: Any) -> list[Any]:
    """Results of a program on the examples: tensors as the exporter has them, plain values."""
    nodes = {node.name: node for node in program.graph.nodes}
    specs = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    return [
        nodes[s.arg.name].meta.get("val") if s.arg.name in nodes else getattr(s.arg, "value", None)
        for s in specs
    ]


def _unlike(theirs: Any, ours: Any) -> Iterator[tuple[str, str]]:
    """What differs between a result of the program and MLX's lazy one, but for the numbers."""
    if is_array(theirs) and is_array(ours):
        sizes = tuple(_size(n) for n in theirs.shape)
        if None not in sizes and sizes != tuple(ours.shape):
            yield str(sizes), str(tuple(ours.shape))
        yield from unlike_dtypes(theirs, ours)
    elif is_array(theirs) or is_array(ours):
        yield said(theirs), said(ours)
    elif _size(theirs) is not None and not equal(_size(theirs), ours):
        yield said(_size(theirs)), said(ours)


def _size(length: Any) -> Any:
    """A number as it is on the examples; None where that is not known."""
    node = getattr(length, "node", None)
    return length if node is None else node.hint
