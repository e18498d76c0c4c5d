"""`with torch.no_grad()` in what a gradient is taken of: what it assigns keeps no gradient."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.def_use import loads, stores

UNWRAPPED: tuple[str, ...] = (
    "torch.no_grad",
    "torch.inference_mode",
    "torch.enable_grad",
    "torch.autocast",
)
UNWRAPPED += ("torch.set_grad_enabled", "torch.autograd.set_detect_anomaly")
UNWRAPPED += ("torch.autograd.profiler.record_function", "torch.cuda.device", "torch.device")
UNWRAPPED += ("torch.cuda.amp.autocast", "torch.nn.attention.sdpa_kernel")
UNWRAPPED += ("torch.serialization.safe_globals",)
UNWRAPPED += ("torch.distributed.elastic.multiprocessing.errors.record",)
UNWRAPPED += ("torch.backends.cuda.sdp_kernel", "torch.autograd.profiler.profile")
STOPPING = ("torch.no_grad", "torch.inference_mode")
#: Types of which nothing has a gradient.
_PLAIN = ("int", "bool", "str", "none", "size", "dtype", "device", "range", "numpy")


def _names_of(at: Place, node: cst.With) -> list[str]:
    return [manager(at, item.item) for item in node.items]


def manager(at: Place, node: Any) -> str:
    """The full name of a context manager or decorator."""
    return at.file.names.of(node.func if isinstance(node, cst.Call) else node)


@entering(cst.With)
def _before_with(at: Place, node: cst.With) -> None:
    names = _names_of(at, node)
    if any(n in STOPPING for n in names) and differentiated(at):
        at.no_grads.append(_leaving(at, node))


def _leaving(at: Place, node: cst.With) -> set[str]:
    """Names that the function reads elsewhere than in a no_grad of its."""
    if not at.bodies:
        return set(stores(node))
    return _read_outside(at.bodies[-1].body, node)


@leaving(cst.With)
def _with(at: Place, original: cst.With, updated: cst.With) -> Any:
    """no_grad, autocast and the like go."""
    names = _names_of(at, original)
    if any(n in STOPPING for n in names) and differentiated(at):
        at.no_grads.pop()
    if not all(name in UNWRAPPED for name in names):
        return updated
    at.change(original, ", ".join(names), "gradients are asked for, not recorded")
    body = list(updated.body.body)
    if body and hasattr(body[0], "leading_lines"):
        lines = [*original.leading_lines, *body[0].leading_lines]
        body[0] = body[0].with_changes(leading_lines=lines)
    return cst.FlattenSentinel(body)


def differentiated(at: Place) -> bool:
    """Whether the place is inside of what a gradient may be taken of."""
    return at.in_module() or not at.file.traced.isdisjoint(at.functions)


def without_gradient(at: Place, target: Any, old: Any, value: Any) -> Any:
    """A value that is assigned: without its gradient where no_grad holds.

    `target` and `old` are of the source; what only the no_grad itself reads stays as it is.
    """
    return detached(at, old, value) if leaves_stopped(at, target) else value


def leaves_stopped(at: Place, target: Any) -> bool:
    """Whether what is assigned under no_grad is read where gradients are taken."""
    if not at.no_grads or at.functions[-1:] == ["__init__"]:
        return False
    local = isinstance(target, cst.Name)
    return not local or any(target.value in names for names in at.no_grads)


def detached(at: Place, old: Any, value: Any) -> Any:
    """A value without its gradient; as it is where it has none."""
    kind = at.type_of(old)
    if kind.kind in _PLAIN or kind.name == "bool" or isinstance(old, cst.Comparison):
        return value
    call = "mx.stop_gradient" if kind.tensor else "kit.training.detached"
    text = code(value)
    text = f"({text})" if isinstance(value, cst.Tuple) and not value.lpar else text
    if text.startswith((f"{call}(", "mx.stop_gradient(")) and isinstance(value, cst.Call):
        return value
    return expression(f"{call}({text})")


@leaving(cst.Decorator)
def _decorator(at: Place, original: cst.Decorator, updated: cst.Decorator) -> Any:
    name = manager(at, original.decorator)
    if name in STOPPING and not at.file.traced.isdisjoint(at.functions[-1:]):
        why = "around what a gradient is taken of: detach its result"
        at.refuse(original, why, name, Code.ARGUMENTS)
    gone = name in UNWRAPPED or name.startswith(("torch.jit.", "torch.compile"))
    return cst.RemoveFromParent() if gone else updated


def _read_outside(body: Any, block: Any) -> set[str]:
    """Names that statements of a body read, but for those of one block in it."""
    found: set[str] = set()
    for statement in body.body:
        if statement is block:
            continue
        inner = getattr(statement, "body", None)
        if inner is None or not hasattr(inner, "body") or not _holds(statement, block):
            found |= loads(statement)
            continue
        found |= loads(statement.with_changes(body=cst.IndentedBlock([])))
        found |= _read_outside(inner, block)
        orelse = getattr(statement, "orelse", None)
        if orelse is not None and hasattr(orelse, "body"):
            found |= _read_outside(orelse.body, block)
    return found


def _holds(node: Any, wanted: Any) -> bool:
    return node is wanted or any(_holds(child, wanted) for child in node.children)
