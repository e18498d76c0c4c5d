"""What a forward changes where it is not run: seen while it is traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch2mlx.errors import ExportError, TranslationError
from torch2mlx.export.capture.freedom import Way
from torch2mlx.export.capture.recording import steps, traced_in_mode
from torch2mlx.export.capture.tracing import in_branch
from torch2mlx.export.verify.attributes import Attributes
from torch2mlx.export.verify.iterators import Taken
from torch2mlx.export.verify.preserved import preserved
from torch2mlx.export.verify.running import Case

#: What torch's own layers assign at every call.
_OF_LAYERS = ("_flat_weights", "_flat_weight_refs")


@contextmanager
def noted_changes(model: Any, wanted: bool = True) -> Iterator[dict[str, Any]]:
    """While open, what a forward changes as it is traced is collected, by name: all that a file
    does not follow, which is what is no parameter and no buffer. Nothing where not `wanted`."""
    changed: dict[str, Any] = {}
    if not wanted:
        yield changed
        return
    known = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    before: list[Attributes] = []

    def begins(*_: Any) -> None:
        before[:] = [] if in_branch() else [Attributes(model)]

    def ended(*_: Any) -> None:
        found = before.pop().changed() if before else {}
        more = {n: v for n, v in found.items() if n not in known and not n.endswith(_OF_LAYERS)}
        changed.update(more)

    handles = model.register_forward_pre_hook(begins), model.register_forward_hook(ended)
    try:
        yield changed
    finally:
        for handle in handles:
            handle.remove()


def told(changed: Mapping[str, Any]) -> tuple[str, ...]:
    """The note on what a forward changes and nothing ran."""
    if not changed:
        return ()
    names = ", ".join(sorted(changed))
    return (f"the forward changes {names}: the file does what the first call does, at every call",)


def told_of(call: str, changed: Mapping[str, Any]) -> str:
    """What there is to say where a later call is another than the first."""
    return (
        f"{call} differs: the forward changes {', '.join(sorted(changed))}, which "
        "the file has as the first call finds it: keep what later calls read in a buffer "
        "(register_buffer) of a module that is held once, and write to it with copy_"
    )


def refuse_changing(model: Any, case: Case, way: Way, changed: Mapping[str, Any]) -> None:
    """Traces the second call too. Raises TranslationError, with names, where it is another program
    than the first, by numbers, texts and flags that the forward changes."""
    taken = {name: value for name, value in changed.items() if isinstance(value, Taken)}
    if taken:
        raise _settled(told_of("the second call", taken))
    plain = {name: value for name, value in changed.items() if _is_plain(value)}
    if not plain:
        return
    with preserved(model):
        try:
            first = steps(traced_in_mode(model, case.args, case.kwargs, way).program.graph_module)
            for name, value in plain.items():
                path, _, attribute = name.rpartition(".")
                part = dict(model.named_modules()).get(path)
                if part is not None and attribute in vars(part):
                    setattr(part, attribute, value)
            again = steps(traced_in_mode(model, case.args, case.kwargs, way).program.graph_module)
        except ExportError:
            return
    if first != again:
        raise _settled(told_of("the second call", plain))


def refuse_spent(changed: Mapping[str, Any]) -> None:
    """Raises TranslationError, with names, where a forward takes what cannot be given again: a file
    would have the item after the one that the next call gets."""
    names = sorted(n for n, v in changed.items() if isinstance(v, Taken) and not v.again)
    if names:
        raise _settled(
            f"each call of the forward takes the next item of {', '.join(names)}, and what it gave "
            "cannot be given again: keep the items in a list or a buffer, and the number of the "
            "next one in a buffer (register_buffer) that the forward adds to"
        )


def _settled(message: str) -> TranslationError:
    error = TranslationError(message)
    error.settled = True
    return error


def _is_plain(value: Any) -> bool:
    from torch.utils import _pytree as pytree

    kinds = (int, float, str)
    return value is not None and all(isinstance(v, kinds) for v in pytree.tree_leaves(value))
