"""Calls: of what is imported, of what the file defines, of methods and of Python's functions."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.functions import named_call
from torch2mlx.porting.rules.methods import method_call
from torch2mlx.porting.rules.names import _CLASSES, named_value
from torch2mlx.porting.rules.no_grad import UNWRAPPED
from torch2mlx.porting.rules.optional_attributes import asking
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.reduction import with_reduction
from torch2mlx.porting.rules.requires_grad import trainable_filter
from torch2mlx.porting.rules.sequential import with_layers
from torch2mlx.porting.rules.shared_tensors import of_layer
from torch2mlx.porting.rules.text import again, as_int, bare, code, expression
from torch2mlx.porting.scopes.import_table import BY_NAME, TYPED, dotted
from torch2mlx.porting.training.steps_rewritten import KIT
from torch2mlx.porting.types import layers
from torch2mlx.porting.types.kinds import UNKNOWN

#: Questions that are answered with no, always.
_NEVER: tuple[str, ...] = (
    "torch.jit.is_scripting",
    "torch.jit.is_tracing",
    "torch.is_autocast_enabled",
)
_NEVER += ("torch.compiler.is_compiling", "torch.onnx.is_in_onnx_export")


@entering(cst.Call)
def _before_call(at: Place, node: cst.Call) -> None:
    at.makers.add(node.func)


@leaving(cst.Call)
def _call(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    full = at.file.names.of(original.func)
    updated = with_layers(at, original, updated)
    if full:
        return _call_of_import(at, full, original, updated)
    if isinstance(original.func, cst.Name) and original.args:
        asked = _asked(at, original.func.value, original, updated)
        if asked is not None:
            return asked
    return _own_call(at, original, updated)


def _call_of_import(at: Place, full: str, original: cst.Call, updated: cst.Call) -> Any:
    if full in _NEVER:
        return expression("False")
    if full in UNWRAPPED and full != "torch.device":
        return expression("kit.training.context()")  # where it is no `with` of its own
    if full.startswith("torch.nn."):  # both have their arguments in the same order
        original, updated = with_reduction(original), with_reduction(updated)
    kind = full.removeprefix("torch.")
    if kind in (*TYPED, "Tensor") and not _is_listed(original):
        target = "kit.typed.FloatTensor" if kind == "Tensor" else _CLASSES[full]
        return again(target, _sized(at, original, updated))
    made = named_call(at, full, original, updated)
    return updated if made is None else made


def _sized(at: Place, original: cst.Call, updated: cst.Call) -> cst.Call:
    """`FloatTensor(x.shape)` with the sizes one by one: in torch these are no data, as a tuple
    is, which shapes are in MLX."""
    if len(original.args) != 1 or original.args[0].star:
        return updated
    value, given = original.args[0].value, updated.args[0]
    made: Any = given.value
    inner = value.func if isinstance(value, cst.Call) else value
    owner = at.type_of(inner.value) if isinstance(inner, cst.Attribute) else UNKNOWN
    if at.type_of(value).kind == "size" and owner.tensor:
        return updated.with_changes(args=[given.with_changes(star="*")])
    if isinstance(value, cst.Tuple):
        return updated.with_changes(args=[cst.Arg(cst.List(made.elements))])
    if owner.kind == "numpy" or _is_elsewhere(at, value):
        return updated.with_changes(args=[cst.Arg(expression(f"list({code(given.value)})"))])
    return updated


def _is_elsewhere(at: Place, node: Any) -> bool:
    """Whether an expression is a field of a field of what another library made."""
    depth = 0
    while isinstance(node, cst.Attribute):
        node, depth = node.value, depth + 1
    return depth > 1 and isinstance(node, cst.Name) and node.value in at.file.elsewhere


def _asked(at: Place, name: str, original: cst.Call, updated: cst.Call) -> Any:
    """Python's own functions, of what is torch's or a tensor; None for others."""
    about = at.file.names.of(original.args[0].value)
    if name == "hasattr" and about.startswith("torch"):
        return expression("True")
    if name == "getattr" and about == "torch":
        return _dtype_by_name(at, original, updated)
    if at.file.names.of(original) == BY_NAME and original in at.makers:
        what = f"kit.optimizers.named({code(updated.args[1].value)})"
        return expression(what)
    if name == "getattr" and about.startswith("torch."):
        why = "what this is is only known when it runs: choose among its values by name"
        at.refuse(original, why, f"getattr({about}, ...)", Code.UNCLEAR)
        return updated
    if name == "range" and any(at.type_of(a.value).tensor for a in original.args):
        args = [
            a.with_changes(value=as_int(a.value)) if at.type_of(old.value).tensor else a
            for old, a in zip(original.args, updated.args, strict=True)
        ]
        return updated.with_changes(args=args)
    return None


def _own_call(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    """A call of what is not imported."""
    if dotted(original.func).startswith(f"{KIT}."):
        return updated  # which a pass before this one wrote
    trainable = trainable_filter(at, original, updated)
    if trainable is not None:
        return trainable
    changing = of_layer(at, original, updated)
    if changing is not None:
        return changing
    if isinstance(original.func, cst.Attribute):
        made = _parent(at, original, updated)
        return method_call(at, original, updated) if made is None else made
    if dotted(original.func) in at.file.names.functions:
        return asking(original, updated)
    return updated


def _parent(at: Place, original: cst.Call, updated: cst.Call) -> cst.Call | None:
    """`super().__init__(...)` of a layer's subclass, with what its class in MLX takes."""
    func = original.func
    named = isinstance(func, cst.Attribute) and func.attr.value == "__init__"
    if not named or code(func) != "super().__init__" or not at.classes:
        return None
    bases = at.file.names.classes[at.classes[-1]].bases
    full = at.file.names.of(bases[0].value) if bases else ""
    known = full.startswith("torch.nn.") and layers.known(full.rpartition(".")[2]) is not None
    if not known or not original.args or any(a.star for a in original.args):
        return None
    # torch's layers take both last, by place too
    while original.args and dotted(original.args[-1].value) in ("device", "dtype"):
        original = original.with_changes(args=original.args[:-1])
        updated = updated.with_changes(args=updated.args[:-1])
    made = named_call(at, full, original, updated)
    base = named_value(at, full, bases[0].value)
    if not isinstance(made, cst.Call) or code(made.func) != code(base):
        why = "a subclass of a layer that MLX makes otherwise: hold the layer instead"
        at.refuse(original, why, full)
        return updated
    return made.with_changes(func=updated.func)


def _dtype_by_name(at: Place, original: cst.Call, updated: cst.Call) -> Any:
    """`getattr(torch, name)`: a dtype; other things of torch are an error there."""
    at.change(original, "getattr(torch, ...)", "the dtype of that name", "dtypes only")
    return expression(f"kit.tensors.dtype({code(updated.args[1].value)})")


@leaving(cst.Arg)
def _arg(at: Place, original: cst.Arg, updated: cst.Arg) -> cst.Arg:
    return updated.with_changes(value=bare(updated.value, original.value))


def _is_listed(node: cst.Call) -> bool:
    """Whether a call is given one list, as it is written: data, not sizes."""
    return len(node.args) == 1 and isinstance(node.args[0].value, (cst.List, cst.ListComp))
