"""Parameters that no module holds, `Adam([log_alpha])`: MLX's optimizers update modules, so each
becomes the value of a small one.

log_alpha = torch.zeros(1, requires_grad=True)      log_alpha = FreeParameter(torch.zeros(1))
optimizer = Adam([log_alpha])                   ->  optimizer = Adam(log_alpha.parameters())
loss = -(log_alpha.exp() * x).mean()                loss = -(log_alpha.value.exp() * x).mean()
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import calls, everything, of_kinds

KIND = "FreeParameter"
_CLASS = '''

class {kind}({nn}.Module):
    """A parameter that no other module holds."""

    def __init__(self, value):
        super().__init__()
        self.value = {nn}.Parameter(value)


'''


class FreeParameters(cst.CSTTransformer):
    """Gives each such parameter of a file a module; names that are bound elsewhere too are left."""

    def __init__(self, module: cst.Module, names: Names, report: Report) -> None:
        super().__init__()
        self._names, self._report = names, report
        wanted = {n for call in calls(module) for n in self._given(call)}
        counted = _bound(module) if wanted else {}
        made = self._made(module) if wanted else {}
        wanted -= self._kept(module, wanted)
        free = KIND not in counted and self._nn()
        self.found = {n: made[n] for n in wanted if n in made and counted.get(n) == 1 and free}

    def _kept(self, module: cst.Module, wanted: set[str]) -> set[str]:
        """Names whose tensor something else may hold, which would not see its new values."""
        lists = [one for c in calls(module) for one in self._lists(c)] if wanted else []
        found: set[str] = set()
        for node in everything(module) if wanted else ():
            held: list[Any] = []
            if isinstance(node, (cst.Assign, cst.AnnAssign, cst.Return, cst.Yield, cst.NamedExpr)):
                held = [node.value]
            elif isinstance(node, (cst.List, cst.Tuple, cst.Set, cst.Dict)) and node not in lists:
                held = [element.value for element in node.elements]
            elif isinstance(node, cst.Call) and not self._is_function(node.func):
                held = [a.value for a in node.args]
            found |= {n.value for n in held if isinstance(n, cst.Name)} & wanted
        return found

    def _is_function(self, func: Any) -> bool:
        """Whether a call is of a function that computes something, and keeps nothing."""
        full = self._names.of(func)
        plain = isinstance(func, cst.Name) and func.value in ("print", "float", "len")
        place, _, name = full.rpartition(".")
        return plain or (place in ("torch", "torch.nn.functional") and name[:1].islower())

    def _nn(self) -> str:
        """What the file calls torch.nn."""
        held = {full: name for name, full in self._names.imports.items()}
        return held.get("torch.nn") or ("torch.nn" if held.get("torch") == "torch" else "")

    def _given(self, call: cst.Call) -> list[str]:
        """The names in the lists that an optimizer is given."""
        items = [e for one in self._lists(call) for e in one.elements]
        return [e.value.value for e in items if isinstance(e.value, cst.Name) and _is_item(e)]

    def _lists(self, call: cst.Call) -> list[cst.List]:
        """The lists in what an optimizer is given that hold names and all of other lists alone:
        `[a]`, `[*net.parameters(), a]`, `list(net.parameters()) + [a]`."""
        full = self._names.of(call.func)
        if not full.startswith("torch.optim.") or "lr_scheduler" in full or not call.args:
            return []
        waiting, found = [call.args[0].value], []
        while waiting:
            node = waiting.pop()
            if isinstance(node, cst.BinaryOperation):
                waiting += [node.right, node.left]
            elif isinstance(node, cst.List):
                found.append(node)
        return [one for one in found if all(_is_named(e) for e in one.elements)]

    def _made(self, module: cst.Module) -> dict[str, Any]:
        """Plain names -> values, of what is a parameter where it is made."""
        found = {}
        for node in of_kinds(module, cst.Assign):
            if isinstance(node, cst.Assign) and len(node.targets) == 1:
                target, value = node.targets[0].target, self._value(node.value)
                if isinstance(target, cst.Name) and value is not None:
                    found[target.value] = (node, value)
        return found

    def _value(self, node: Any) -> Any:
        """What a parameter starts from, where an expression makes one."""
        if not isinstance(node, cst.Call):
            return None
        if isinstance(node.func, cst.Attribute) and node.func.attr.value == "requires_grad_":
            return node.func.value if not node.args else None
        full = self._names.of(node.func)
        if full == "torch.nn.Parameter" and len(node.args) == 1:
            return node.args[0].value
        rest = [a for a in node.args if getattr(a.keyword, "value", "") != "requires_grad"]
        asked = [a.value for a in node.args if a not in rest]
        if not full.startswith("torch.") or len(asked) != 1 or not rest:
            return None
        true = isinstance(asked[0], cst.Name) and asked[0].value == "True"
        rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return node.with_changes(args=rest) if true else None

    # rewriting

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        target = original_node.targets[0].target
        held = self.found.get(target.value) if isinstance(target, cst.Name) else None
        if held is None or held[0] is not original_node:
            return updated_node
        self._report.change(original_node, "requires_grad", "MLX trains what modules hold")
        made = cst.Call(cst.Name(KIND), [cst.Arg(held[1])])
        return updated_node.with_changes(targets=original_node.targets, value=made)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if original_node.value not in self.found:
            return updated_node
        return cst.Attribute(updated_node, cst.Name("value"))

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(keyword=original_node.keyword)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        given = self._given(original_node)
        if not given or not all(name in self.found for name in given):
            return updated_node
        first = updated_node.args[0]
        old = original_node.args[0].value
        alone = len(given) == 1 and isinstance(old, cst.List) and len(old.elements) == 1
        whole: Any = _parameters(given[0]) if alone else self._spread(old, first.value)
        first = first.with_changes(value=whole)
        return updated_node.with_changes(args=[first, *updated_node.args[1:]])

    def _spread(self, old: Any, new: Any) -> Any:
        """What an optimizer is given, with the parameters of a module for each name of a list."""
        if isinstance(old, cst.BinaryOperation):
            left, right = self._spread(old.left, new.left), self._spread(old.right, new.right)
            return new.with_changes(left=left, right=right)
        if not isinstance(old, cst.List):
            return new
        pairs = zip(old.elements, new.elements, strict=True)
        return new.with_changes(elements=[self._all_of(one, other) for one, other in pairs])

    def _all_of(self, old: Any, new: Any) -> Any:
        if not _is_item(old) or old.value.value not in self.found:
            return new
        return cst.StarredElement(_parameters(old.value.value), comma=new.comma)

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        if not self.found:
            return updated_node
        body = list(updated_node.body)
        at = next((i for i, statement in enumerate(body) if not _leads(statement)), len(body))
        made = cst.parse_statement(_CLASS.format(kind=KIND, nn=self._nn()))
        spaced = [cst.EmptyLine(indent=False)] * 2
        body[at:at] = [made.with_changes(leading_lines=spaced)]
        if at + 1 < len(body):
            lines = [*spaced, *(e for e in body[at + 1].leading_lines if e.comment)]
            body[at + 1] = body[at + 1].with_changes(leading_lines=lines)
        return updated_node.with_changes(body=body)


def _parameters(name: str) -> cst.Call:
    return cst.Call(cst.Attribute(cst.Name(name), cst.Name("parameters")))


def _is_item(element: Any) -> bool:
    return isinstance(element, cst.Element) and isinstance(element.value, cst.Name)


def _is_named(element: Any) -> bool:
    """Whether an item of a list is a name, or all of what a call or a name gives."""
    starred = isinstance(element, cst.StarredElement)
    return _is_item(element) or (starred and isinstance(element.value, (cst.Call, cst.Name)))


def _leads(statement: Any) -> bool:
    """Whether a statement may stand above the classes of a file: an import, or a text."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    small = statement.body[0]
    text = isinstance(small, cst.Expr) and isinstance(small.value, cst.SimpleString)
    return text or isinstance(small, (cst.Import, cst.ImportFrom))


def _bound(module: cst.Module) -> dict[str, int]:
    """How often each name is bound in a file, in any scope."""
    found: dict[str, int] = {}
    for node in everything(module):
        places: list[Any] = []
        if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor)):
            places = [node.target]
        elif isinstance(node, (cst.Param, cst.FunctionDef, cst.ClassDef, cst.AsName, cst.NameItem)):
            places = [node.name]
        elif isinstance(node, (cst.NamedExpr, cst.Del)):
            places = [node.target]
        elif isinstance(node, cst.ImportAlias):
            places = [node.name]
        while places:
            place = places.pop()
            if isinstance(place, (cst.Tuple, cst.List)):
                places += [element.value for element in place.elements]
            elif isinstance(place, cst.Name):
                found[place.value] = found.get(place.value, 0) + 1
    return found
