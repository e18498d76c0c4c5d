"""Names of a file -> what they stand for: imports, aliases, functions and classes of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.scope_table import EITHER, ScopeTable, contested, imported_as
from torch2mlx.porting.scopes.traversal import children

#: torch's older tensor types, which are classes: `torch.FloatTensor(2, 3)`.
TYPED = tuple(
    f"{kind}Tensor"
    for kind in (
        *("Float", "Double", "Half", "BFloat16"),
        *("Long", "Int", "Short", "Char", "Byte", "Bool"),
    )
)
#: What `getattr(torch.optim, name)` stands for: one of its classes.
BY_NAME = "torch.optim.named"
#: Other names under which torch offers the same thing.
_SAME = {
    "torch.functional": "torch.nn.functional",
    "torch.nn.linear.NonDynamicallyQuantizableLinear": "torch.nn.Linear",
    "torch.nn.modules": "torch.nn",
    "torch.nn.parameter.Parameter": "torch.nn.Parameter",
    "torch.autograd.Variable": "torch.autograd.Variable",
    "torch.nn.functional.upsample": "torch.nn.functional.interpolate",
    "torch.amp.autocast": "torch.autocast",
    "torch.cuda.amp.autocast": "torch.autocast",
    "torch.cuda.amp.GradScaler": "torch.amp.GradScaler",
    **{f"torch.{backend}": "torch.cuda" for backend in ("accelerator", "xpu", "mps")},
    **{f"torch.cuda.{kind}": f"torch.{kind}" for kind in TYPED},
}
#: Files of torch.nn.modules, whose classes are torch.nn's.
_FILES = frozenset(
    [
        *("activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv"),
        *("distance", "dropout", "flatten", "fold", "instancenorm", "lazy", "linear", "loss"),
        *("module", "normalization", "padding", "pixelshuffle", "pooling", "rnn", "sparse"),
        *("transformer", "upsampling"),
    ]
)


@dataclass
class Names:
    """`imports`: local name -> full name. `functions` and `classes` are those of the file."""

    imports: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, Any] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)  # modules of which all names are imported
    every: list[tuple[str, str]] = field(default_factory=list)  # all imports, in any scope
    scopes: ScopeTable = field(default_factory=lambda: ScopeTable(cst.Module([]), frozenset()))

    def of(self, node: Any) -> str:
        """The full name of a dotted expression that starts with an import, BY_NAME of an optimizer
        whose class is only known when it runs; "" of others."""
        if isinstance(node, cst.Name):
            full = self.imports.get(node.value, "")
            if node.value not in self.scopes.names:
                return full
            found = self.scopes.found.get(node, full)
            return "" if found is None or found == EITHER else found
        if isinstance(node, cst.Attribute):
            head = self.of(node.value)
            return canonical(f"{head}.{node.attr.value}") if head else ""
        return BY_NAME if self._by_name(node) else ""

    def _by_name(self, node: Any) -> bool:
        """Whether a node is `getattr(torch.optim, name)`."""
        asked = isinstance(node, cst.Call) and dotted(node.func) == "getattr"
        return asked and len(node.args) == 2 and self.of(node.args[0].value) == "torch.optim"

    def shared(self, node: Any) -> bool:
        """Whether a name may be an import's, by what it is elsewhere in the file: what has it is no
        tensor. A parameter or a local that hides what is imported of another library is none."""
        if not isinstance(node, cst.Name) or node.value not in self.scopes.names:
            return False
        of_torch = self.imports.get(node.value, "torch").partition(".")[0] == "torch"
        return of_torch or bool(self.scopes.found.get(node, EITHER))


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """One name for what torch offers under several."""
    for other, usual in _SAME.items():
        if name == other or name.startswith(f"{other}."):
            return _outside_file(usual + name[len(other) :])
    return _outside_file(name)


def _outside_file(name: str) -> str:
    """`torch.nn.Linear` of `torch.nn.linear.Linear`, as torch.nn.modules.linear has it."""
    parts = name.split(".")
    if len(parts) > 3 and parts[:2] == ["torch", "nn"] and parts[2] in _FILES:
        return ".".join([*parts[:2], *parts[3:]])
    return name


def dotted(node: Any) -> str:
    """ "a.b.c" of a dotted expression, "" of any other."""
    if isinstance(node, cst.Name):
        return str(node.value)
    if isinstance(node, cst.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr.value}" if head else ""
    return ""


def collect(module: cst.Module) -> Names:
    """All imports, functions and classes of a file."""
    names = Names()
    for child in children(module):
        _collect(child, names, "")
    several = contested(module, names.every)
    if several:
        names.scopes = ScopeTable(module, several, canonical)
    return names


def _collect(node: Any, names: Names, inside: str) -> None:
    if isinstance(node, cst.Import):
        _import(node, names)
    elif isinstance(node, cst.ImportFrom):
        _import_from(node, names)
    elif isinstance(node, cst.FunctionDef):
        if inside != "class":
            names.functions.setdefault(node.name.value, node)
        inside = "function"
    elif isinstance(node, cst.ClassDef):
        names.classes[node.name.value] = node
        inside = "class"
    elif isinstance(node, (cst.BaseExpression, cst.Expr, cst.Assign, cst.Return)):
        return
    for child in children(node):
        _collect(child, names, inside)


def _import(node: cst.Import, names: Names) -> None:
    for alias in node.names:
        _keep(names, *imported_as(alias))


def _import_from(node: cst.ImportFrom, names: Names) -> None:
    if node.module is None or node.relative:
        return
    if isinstance(node.names, cst.ImportStar):
        names.stars.append(dotted(node.module))
        return
    for alias in node.names:
        _keep(names, *imported_as(alias, dotted(node.module)))


def _keep(names: Names, local: str, full: str) -> None:
    names.imports[local] = canonical(full)
    names.every.append((local, names.imports[local]))


def imports_torch(module: cst.Module) -> bool:
    """Whether a file imports torch, or something that is built on it, at all."""
    roots = {full.partition(".")[0] for full in collect(module).imports.values()}
    return bool(roots & {"torch", "torchvision"})
