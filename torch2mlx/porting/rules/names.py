"""Names of torch and attributes of tensors: what they are in MLX where they are not called."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.catalog.processes import find_shared
from torch2mlx.porting.rules.apply_layout import class_value
from torch2mlx.porting.rules.functions import PACKED
from torch2mlx.porting.rules.place import Place, entering, leaving
from torch2mlx.porting.rules.render import term
from torch2mlx.porting.rules.requires_grad import is_trainable
from torch2mlx.porting.rules.text import code, expression
from torch2mlx.porting.scopes.def_use import stores
from torch2mlx.porting.scopes.import_table import TYPED
from torch2mlx.porting.scopes.traversal import everything, of_kinds
from torch2mlx.porting.training.free_parameters import KIND
from torch2mlx.porting.types import layers
from torch2mlx.porting.types.kinds import ELSEWHERE

_DTYPES = {
    **{n: n for n in ("float32", "float16", "bfloat16", "float64", "int8", "int16", "int32")},
    **{n: n for n in ("int64", "uint8", "uint16", "uint32", "uint64", "complex64")},
    **{
        "float": "float32",
        "double": "float64",
        "half": "float16",
        "long": "int64",
        "bool": "bool_",
    },
    **{"int": "int32", "short": "int16", "complex128": "complex64"},
}
_CONSTANTS = {
    "__version__": '"2.13.0"',
    "pi": "mx.pi",
    "inf": "mx.inf",
    "nan": "mx.nan",
    "e": "mx.e",
    "newaxis": "None",
}
_CLASSES = {
    "torch.Tensor": "mx.array",
    **{f"torch.{n}": f"kit.typed.{n.replace('Double', 'Float')}" for n in TYPED},
    **{"torch.dtype": "mx.Dtype", "torch.device": "mx.Device", "torch.Size": "tuple"},
    **dict.fromkeys(("torch.cuda.OutOfMemoryError", "torch.OutOfMemoryError"), "RuntimeError"),
    **{f"torch.optim.{n}": "optim.Optimizer" for n in ("Optimizer", "optimizer.Optimizer")},
    "torch.optim.optimizer.ParamsT": "object",
    "torch.nn.ModuleDict": "kit.layers.ModuleDict",
    "torch.autograd.Function": "kit.control.Function",
    "torch.nn.DataParallel": "()",
    "torch.nn._BatchNorm": "kit.BatchNorm",
    "torch.nn._InstanceNorm": "kit.InstanceNorm",
    "torch.nn._ConvNd": "(kit.conv.CONVOLUTIONS + kit.conv.TRANSPOSED)",
}

#: Names under torch. as values: dtypes, constants, functions that take the same arguments.
_VALUES = {name: f"mx.{mlx}" for name, mlx in _DTYPES.items()} | _CONSTANTS
_VALUES |= {n: f"mx.{n}" for n in ("zeros", "ones", "full", "eye", "zeros_like", "ones_like")}
_VALUES |= {
    "arange": "kit.tensors.arange",
    "randn": "mx.random.normal",
    "tensor": "kit.tensors.tensor",
}
#: Where functions and classes that keep their names are.
_NAMED: tuple[tuple[str, str, Collection[str]], ...] = (
    ("torch.optim.", "kit.optimizers", layers.OPTIMIZER_ARGUMENTS),
    ("torch.utils.data.", "kit.data", layers.DATA),
    ("torch.nn.utils.rnn.", "kit.packed", PACKED),
    ("torch.utils.tensorboard.", "kit.tensorboard", layers.BOARD),
)
#: A filter of torchvision, which the kit takes by its name.
_GRADIENT = ".grad: gradients are what nn.value_and_grad answers"
_FILTER = "torchvision.transforms.InterpolationMode."


@entering(cst.Attribute)
def _before_attribute(at: Place, node: cst.Attribute) -> None:
    at.fields.add(node.attr)


@entering(cst.AssignTarget, cst.AugAssign)
def _before_target(at: Place, node: Any) -> None:
    target = node.target
    while isinstance(target, cst.Subscript):  # x.data[0] = y changes x
        target = target.value
    at.targets.add(target)


@entering(cst.Arg, cst.Param)
def _before_arg(at: Place, node: Any) -> None:
    name = node.keyword if isinstance(node, cst.Arg) else node.name
    at.fields |= {name} if name is not None else set()


@entering(cst.Annotation)
def _before_annotation(at: Place, node: cst.Annotation) -> None:
    at.annotates = True


@leaving(cst.Annotation)
def _annotation(at: Place, original: cst.Annotation, updated: cst.Annotation) -> cst.Annotation:
    at.annotates = False
    return updated


@leaving(cst.Name)
def _name(at: Place, original: cst.Name, updated: cst.Name) -> Any:
    if original in at.fields:
        return updated
    full = at.file.names.of(original)
    if not full.startswith("torch") or full.count(".") == 0:
        return updated
    return named_value(at, full, original) or updated


@leaving(cst.Attribute)
def _attribute(at: Place, original: cst.Attribute, updated: cst.Attribute) -> Any:
    full = at.file.names.of(original)
    if full:
        return named_value(at, full, original) or updated
    name, owner = original.attr.value, at.type_of(original.value)
    asked = name == "requires_grad" and not is_target(at, original)
    if asked and owner.kind in ("tensor", "unknown"):
        return is_trainable(at, original, updated)
    if name == "param_groups" and owner.kind in ("optimizer", "unknown"):
        return expression(f"kit.training.param_groups({code(updated.value)})")
    if name == "is_floating_point" and owner.kind == "dtype":
        return expression(f"mx.issubdtype({code(updated.value)}, mx.floating)")
    if name == "data" and owner.kind == "unknown" and _is_given(at, original):
        return expression(f"kit.typed.data({code(updated.value)})")
    if name == "grad" and owner.name == KIND:
        at.refuse(original, _GRADIENT)
    certain = name == "grad" or name in ELSEWHERE
    if not owner.tensor and not (certain and owner.kind == "unknown"):
        return updated
    if name == "grad":
        at.refuse(original, _GRADIENT)
        return updated
    receiver = code(updated.value)
    known = {
        "data": f"mx.stop_gradient({receiver})",
        "device": "mx.default_device()",
        **dict.fromkeys(ELSEWHERE, "False"),
        "mT": f"{term(receiver)}.swapaxes(-1, -2)",
        "real": f"mx.real({receiver})",
        "imag": f"mx.imag({receiver})",
    }
    if name == "data" and original in at.targets:
        return updated.value
    return expression(known[name]) if name in known else updated


def _is_given(at: Place, node: cst.Attribute) -> bool:
    """Whether `x.data` is read as a whole, of a parameter of which nothing is known: it may be a
    tensor's, or a field of what is none."""
    if not at.bodies or not isinstance(node.value, cst.Name):
        return False
    params = at.bodies[-1].params
    given = [p for p in (*params.params, *params.kwonly_params) if p.annotation is None]
    first = given[:1] if at.classes and len(at.bodies) == 1 else []
    if node.value.value not in {p.name.value for p in given if p not in first}:
        return False
    parts = (cst.Attribute, cst.Subscript)
    within = {part.value for part in everything(at.bodies[-1]) if isinstance(part, parts)}
    return node not in within and node not in at.targets


def _class(at: Place, full: str, original: Any) -> str:
    """The class that stands for one of torch's, in an annotation or a value."""
    if at.annotates and full.endswith("Tensor"):
        return "mx.array"
    held = full == "torch.Tensor" and original in at.file.held_types
    return "kit.typed.Tensor" if held else _CLASSES[full]


def named_value(at: Place, full: str, original: Any) -> Any:
    """What a full name stands for when it is not called."""
    short = full.rpartition(".")[2]
    placed = class_value(at, full, original) or _of_processes(full) or _distribution(full, short)
    if placed is not None:
        return expression(placed)
    if full in _CLASSES:
        return expression(_class(at, full, original))
    for prefix, target, known in _NAMED:
        if full.startswith(prefix) and short in known:
            return expression(f"{target}.{short}")
    if full.startswith(_FILTER):
        return expression(f'"{short.lower()}"')
    if full.startswith("torch.nn.functional."):
        return _function_value(full)
    layer = layers.known(short) if full == f"torch.nn.{short}" else None
    if layer is not None:
        return expression(layer.source)
    if full.count(".") == 1 and full.startswith("torch."):
        if short in _VALUES:
            return expression(_VALUES[short])
        return _function_value(full)
    return None


def _distribution(full: str, short: str) -> str | None:
    """The class of a distribution."""
    held = layers.DISTRIBUTIONS.get(short) if full.startswith("torch.distributions.") else None
    return None if held is None else f"kit.{held}.{short}"


def _function_value(full: str) -> Any:
    """A function as a value: the head of the form that takes one argument."""
    entry = find_function(full)
    for form in entry.forms if entry is not None else ():
        head, bracket, rest = form.text.partition("({input}")
        if not head.replace(".", "").isidentifier():
            continue
        if (bracket and rest.replace("«", "").startswith((")", ", ", "»."))) or rest == ")":
            return expression(head)
    return expression(entry.same) if entry is not None and entry.same else None


def _of_processes(full: str) -> str | None:
    """What stands for a name for several processes that is not called."""
    shared = find_shared(full)
    plain = shared is not None and shared.mlx and not shared.writes and not shared.fills
    return shared.mlx if shared is not None and plain else None


def held_values(module: cst.Module) -> Iterator[Any]:
    """What names are given, the branches of `a if c else b` too."""
    waiting = [node.value for node in of_kinds(module, cst.Assign)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, cst.IfExp):
            waiting += [value.body, value.orelse]
        elif isinstance(value, (cst.Name, cst.Attribute)):
            yield value


def is_target(at: Place, node: Any) -> bool:
    """Whether the statement assigns to an expression."""
    return code(node) in stores(at.current) if at.current is not None else False
