"""A translation of a model without values, run on MLX's lazy arrays: nothing is computed."""

from __future__ import annotations

from typing import Any

from torch2mlx.checking.comparing import leaves_of
from torch2mlx.checking.running import Case
from torch2mlx.errors import TranslationError

UNRUN = "the result was not run: its shapes depend on values, which a model on meta has not"


def shapes_fit(made: Any, traced: Any, case: Case) -> tuple[str, ...]:
    """Builds the module with arrays that are never made, calls it, and compares the shapes of its
    answer with the exported program's; what there is to note.

    Raises TranslationError where names or shapes of weights or results differ.
    """
    import mlx.core as mx

    if made.reads_values:
        return (UNRUN,)
    with mx.stream(mx.cpu):
        args, kwargs = made.ends.given(traced.model, *_real(case))
        answer = leaves_of(made.built(hollow=True)(*args, **kwargs))
        found = [made.ends.result(i, leaf).shape for i, (_, leaf) in enumerate(answer)]
    wanted = _exported(traced.program)
    if len(found) != len(wanted):
        raise TranslationError(f"torch gives {len(wanted)} outputs, MLX {len(found)}")
    for (name, _), shape, expected in zip(answer, found, wanted, strict=True):
        if expected is not None and tuple(shape) != expected:
            raise TranslationError(
                f"{name or 'output'}: torch gives {expected}, MLX {tuple(shape)}"
            )
    return ()


def _real(case: Case) -> tuple[Any, Any]:
    """The inputs, zeros where they are on the meta device."""
    import torch
    from torch.utils import _pytree as pytree

    def real(leaf: Any) -> Any:
        empty = isinstance(leaf, torch.Tensor) and leaf.is_meta
        return torch.zeros_like(leaf, device="cpu") if empty else leaf

    args, kwargs = pytree.tree_map(real, (tuple(case.args), dict(case.kwargs)))
    return args, kwargs


def _exported(program: Any) -> list[tuple[int, ...] | None]:
    """Shapes of a program's results on the examples; None where they are not known."""
    nodes = {node.name: node for node in program.graph.nodes}
    shapes = []
    for spec in program.graph_signature.output_specs:
        value = nodes[spec.arg.name].meta.get("val") if spec.arg.name in nodes else None
        if spec.kind.name == "USER_OUTPUT" and hasattr(value, "shape"):
            sizes = [_size(n) for n in value.shape]
            shapes.append(None if None in sizes else tuple(int(n or 0) for n in sizes))
    return shapes


def _size(length: Any) -> int | None:
    node = getattr(length, "node", None)
    return length if node is None else node.hint
