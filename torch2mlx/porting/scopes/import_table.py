"""Names of a file -> what they stand for: imports, aliases, functions and classes of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.traversal import children

#: Other names under which torch offers the same thing.
_SAME = {
    "torch.functional": "torch.nn.functional",
    "torch.nn.modules": "torch.nn",
    "torch.nn.parameter.Parameter": "torch.nn.Parameter",
    "torch.autograd.Variable": "torch.autograd.Variable",
    "torch.nn.functional.upsample": "torch.nn.functional.interpolate",
    "torch.amp.autocast": "torch.autocast",
    "torch.cuda.amp.autocast": "torch.autocast",
    "torch.cuda.amp.GradScaler": "torch.amp.GradScaler",
}


@dataclass
class Names:
    """`imports`: local name -> full name. `functions` and `classes` are those of the file."""

    imports: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, Any] = field(default_factory=dict)

    def of(self, node: Any) -> str:
        """The full name of a dotted expression that starts with an import; "" of others."""
        if isinstance(node, cst.Name):
            return self.imports.get(node.value, "")
        if isinstance(node, cst.Attribute):
            head = self.of(node.value)
            return canonical(f"{head}.{node.attr.value}") if head else ""
        return ""


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """One name for what torch offers under several."""
    for other, usual in _SAME.items():
        if name == other or name.startswith(f"{other}."):
            return usual + name[len(other) :]
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
    return names


class _Spelled(cst.CSTTransformer):
    """Bases that have the name of the class itself, by the full name of what is imported."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.names = names

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> Any:
        name = original_node.name.value
        full = self.names.imports.get(name, "")
        if not full.startswith("torch"):
            return updated_node
        bases = [
            b.with_changes(value=cst.parse_expression(full)) if dotted(b.value) == name else b
            for b in updated_node.bases
        ]
        return updated_node.with_changes(bases=bases)


def unshadowed(module: cst.Module, names: Names) -> tuple[cst.Module, Names]:
    """Where a class of the file has the name of something imported from torch, the name is the
    class, and its base the import."""
    shadowed = [n for n in names.classes if names.imports.get(n, "").startswith("torch")]
    if not shadowed:
        return module, names
    module = module.visit(_Spelled(names))
    kept = {n: full for n, full in names.imports.items() if n not in shadowed}
    names = collect(module)
    return module, Names({"torch": "torch", **kept}, names.functions, names.classes)


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
        full = dotted(alias.name)
        if alias.asname is not None:
            names.imports[dotted(alias.asname.name)] = canonical(full)
        else:
            root = full.partition(".")[0]
            names.imports[root] = root


def _import_from(node: cst.ImportFrom, names: Names) -> None:
    if node.module is None or node.relative or isinstance(node.names, cst.ImportStar):
        return
    for alias in node.names:
        local = dotted(alias.asname.name) if alias.asname is not None else dotted(alias.name)
        names.imports[local] = canonical(f"{dotted(node.module)}.{dotted(alias.name)}")


def imports_torch(module: cst.Module) -> bool:
    """Whether a file imports torch, or something that is built on it, at all."""
    roots = {full.partition(".")[0] for full in collect(module).imports.values()}
    return bool(roots & {"torch", "torchvision"})
