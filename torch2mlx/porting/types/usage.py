"""What a name is by what is done with it: methods that only tensors have, layers' arguments."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.kinds import TENSOR, Type

#: Methods that only modules have.
_OF_MODULES = ("parameters", "named_parameters", "load_state_dict", "named_modules")


#: What sets the mode of a module, without arguments.
_MODES = ("train", "eval")


#: Methods of what is called an optimizer.
_OF_OPTIMIZERS = ("zero_grad", "step", "update", "state_dict")


#: Methods that only dicts have, without arguments.
_OF_DICTS = ("items", "keys")


def viewed(node: cst.Call) -> bool:
    """x.view(2, -1), x.size(0), x.flatten(1), x.sum(dim=0): arrays of numpy take no such
    arguments."""
    called: Any = node.func
    name = called.attr.value
    if name == "size":
        return True
    if results.says_dim(node):
        return True
    numbers = (cst.Integer, cst.UnaryOperation)
    return name in ("view", "flatten") and any(isinstance(a.value, numbers) for a in node.args)


#: Methods of arrays that answer arrays: what they are called on is one where their answer is.
_KEEPING: tuple[str, ...] = (
    "clone",
    "contiguous",
    "float",
    "double",
    "half",
    "long",
    "to",
    "cpu",
    "cuda",
    "view",
)
_KEEPING += ("reshape", "transpose", "permute", "squeeze", "unsqueeze", "flatten", "mean", "sum")


#: Methods of tensors that answer values and places, a pair of tensors.
_PAIRS = ("max", "min", "sort", "topk", "kthvalue", "median", "mode")


def _root(owner: Any, method: str) -> Any:
    """t of `t.clone().detach()` and of `t.max(1)[1].type_as(y)`."""
    while results.is_of_tensors(method):
        item = isinstance(owner, cst.Subscript)
        call = owner.value if item else owner
        methods = _PAIRS if item else _KEEPING
        if not (isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)):
            break
        if call.func.attr.value not in methods:
            break
        owner = call.func.value
    return owner


def evidence(node: Any, names: Names) -> dict[str, Type]:
    """Plain names on which something is called that tells what they are."""
    found: dict[str, Type] = {}
    for call in calls(node):
        func: Any = call.func
        owner = _root(func.value, func.attr.value) if isinstance(func, cst.Attribute) else None
        if isinstance(owner, cst.Name) and not (names.of(owner) or names.shared(owner)):
            kind = _told(call, func.attr.value, owner.value)
            if kind is not None and (kind.kind == "module" or owner.value not in found):
                found[owner.value] = kind  # a module may have any other method too
        elif call.args and isinstance(call.args[0].value, cst.Name):
            full = names.of(func)
            if full.startswith("torch.") and results.takes_tensor(full):
                found.setdefault(call.args[0].value.value, TENSOR)
    return found


def _told(call: cst.Call, method: str, name: str) -> Type | None:
    """What something is that a method is called on."""
    if method in _OF_MODULES or (method in _MODES and len(call.args) == 0):
        return Type("module")
    if method in _OF_DICTS and len(call.args) == 0:
        return Type("dict")
    if results.is_of_tensors(method) or viewed(call):
        return TENSOR
    return Type("optimizer") if method in _OF_OPTIMIZERS and "opt" in name else None


def made_elsewhere(module: cst.Module, names: Names) -> set[str]:
    """Plain names that hold what other libraries than torch make, of what is no tensor: of a
    simulator, of a reader. Everything that such a library was given by a name may be a tensor."""
    found: dict[str, bool] = {}
    for node in of_kinds(module, cst.AssignTarget, cst.Param, cst.Assign):
        if isinstance(node, cst.AssignTarget):
            for name in (n for n in walk(node.target) if isinstance(n, cst.Name)):
                found.setdefault(name.value, True)
        elif isinstance(node, cst.Param):
            found[node.name.value] = False
        if not isinstance(node, cst.Assign):
            continue
        call, target = node.value, node.targets[0].target
        library = names.of(call.func).partition(".")[0] if isinstance(call, cst.Call) else ""
        other = library not in ("", "torch", "copy", "einops")
        given = [a.value for a in call.args] if isinstance(call, cst.Call) else []
        told = not any(isinstance(value, (cst.Name, cst.Subscript)) for value in given)
        if isinstance(target, cst.Name):
            found[target.value] = found.get(target.value, True) and other and told
    return {name for name, only in found.items() if only}
