"""Parameters that no module holds, `Adam([W, b])`: MLX's optimizers update modules, so each
becomes the value of a small one, and a list of them a module of these.

W = torch.zeros(3, 1, requires_grad=True)           W = FreeParameter(torch.zeros(3, 1))
b = torch.zeros(1, requires_grad=True)              b = FreeParameter(torch.zeros(1))
params = [W, b]                                 ->  params = FreeParameters(W, b)
optimizer = Adam(params)                            optimizer = Adam(params.parameters())
loss = (x @ W + b).square().mean()                  loss = (x @ W.value + b.value).square().mean()
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.report import Report
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import of_kinds
from torch2mlx.porting.training.hand_made import HandMade

KIND, KINDS = "FreeParameter", "FreeParameters"
_CLASS = '''

class {kind}({nn}.Module):
    """A parameter that no other module holds."""

    def __init__(self, value):
        super().__init__()
        self.value = {nn}.Parameter(value)


'''
_GROUP = '''

class {kind}({nn}.Module):
    """Parameters that no other module holds, trained together."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = {nn}.ModuleList(parts)


'''
_LISTS = (cst.List, cst.Tuple)


_HELD = (
    "`{}` is a parameter that no module holds, and something else may hold it beside what trains "
    "it: MLX's optimizers train what modules hold; read it by this name alone, or make it "
    "nn.Parameter of a module"
)


class FreeParameters(cst.CSTTransformer):
    """Gives each such parameter of a file a module, and each list of them."""

    def __init__(self, module: cst.Module, names: Names, report: Report) -> None:
        super().__init__()
        self._names, self._report = names, report
        self._made = HandMade(module, names)
        taken = {KIND, KINDS} & {n.value for n in of_kinds(module, cst.Name)}
        self.found = self._made.tensors if self._nn() and not taken else {}
        for (_, name), made in self._made.left.items():
            report.refuse(self._made.resolved.around.get(made, made), _HELD.format(name))

    def _nn(self) -> str:
        """What the file calls torch.nn."""
        held = {full: name for name, full in self._names.imports.items()}
        return held.get("torch.nn") or ("torch.nn" if held.get("torch") == "torch" else "")

    def _key(self, node: Any) -> Any:
        return self._made.resolved.key(node)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        target = original_node.targets[0].target
        key = self._key(target) if len(original_node.targets) == 1 else None
        if key in self._made.lists:
            listed: Any = original_node.value
            parts = [cst.Arg(e.value) for e in listed.elements]
            made = cst.Call(cst.Name(KINDS), parts)
            return updated_node.with_changes(targets=original_node.targets, value=made)
        if original_node in self._made.renewed and key in self.found:
            return updated_node.with_changes(value=self._made.fresh.alone(updated_node.value))
        held = self.found.get(key) if key is not None else None
        if held is None or held[0] is not original_node:
            return updated_node
        self._report.change(original_node, "requires_grad", "MLX trains what modules hold")
        value = self._made.fresh.value(updated_node.value)
        value = updated_node.value if value is None else value
        if key is not None and self._made.fresh.held.get(
            key
        ):  # MLX finds parameters in lists and dicts
            value = cst.Call(cst.Name("list"), [cst.Arg(value)])
        made = cst.Call(cst.Name(KIND), [cst.Arg(value)])
        return updated_node.with_changes(targets=original_node.targets, value=made)

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        row = isinstance(original_node.body[0], cst.Assign) and len(original_node.body) == 1
        target = original_node.body[0].targets[0].target if row else None
        if original_node in self._made.asked or self._key(target) in self._made.rows:
            return cst.RemoveFromParent()
        if row and original_node.body[0] in self._made.renewed and self._key(target) in self.found:
            zeroed: Any = cst.parse_statement(
                f"{original_node.body[0].targets[0].target.value}.zero_grad()\n"
            )
            return cst.FlattenSentinel([updated_node, zeroed])
        return updated_node

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> Any:
        """A loop over a list is one over the parameters of its module; one over several lists is
        written for each."""
        if original_node in self._made.asked:
            return cst.RemoveFromParent()
        over = original_node.iter
        items = [e.value for e in over.elements] if isinstance(over, (cst.List, cst.Tuple)) else []
        keys = self._made.rows.get(self._key(over), []) or [self._key(i) for i in items]
        if not keys or not all(k in self.found or k in self._made.lists for k in keys):
            return updated_node
        made = [updated_node.deep_clone().with_changes(iter=_parameters(k[1])) for k in keys]
        rest = [loop.with_changes(leading_lines=()) for loop in made[1:]]
        return cst.FlattenSentinel([made[0], *rest])

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        key = self._key(original_node)
        if original_node in self._made.whole:
            return self._listed(original_node)
        if original_node in self._made.bare or key is None:
            return updated_node
        if key in self._made.rows:
            parts = [cst.StarredElement(_parameters(k[1])) for k in self._made.rows[key]]
            return cst.List(parts, lpar=updated_node.lpar, rpar=updated_node.rpar)
        if key in self._made.lists:
            return self._listed(original_node)
        return cst.Attribute(updated_node, cst.Name("value")) if key in self.found else updated_node

    def _listed(self, node: cst.Name) -> Any:
        made = _parameters(node.value)
        around = self._made.resolved.around.get(node)
        return cst.Call(cst.Name("list"), [cst.Arg(made)]) if _adds(around) else made

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(keyword=original_node.keyword)

    def leave_NameItem(self, original_node: cst.NameItem, updated_node: cst.NameItem) -> Any:
        return updated_node.with_changes(name=original_node.name)

    def leave_Element(self, original_node: cst.Element, updated_node: cst.Element) -> Any:
        if original_node not in self._made.spread:
            return updated_node
        value: Any = original_node.value
        return cst.StarredElement(_parameters(value.value), comma=updated_node.comma)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        """`Adam([W])` is `Adam(W.parameters())`."""
        if original_node in self._made.whole:
            owner: Any = original_node.func
            return _parameters(owner.value.value)
        first = original_node.args[0].value if original_node.args else None
        elements = first.elements if isinstance(first, _LISTS) else ()
        alone = len(elements) == 1 and elements[0] in self._made.spread
        if not alone or not self._names.of(original_node.func).startswith("torch.optim."):
            return updated_node
        name: Any = elements[0].value
        given = updated_node.args[0].with_changes(value=_parameters(name.value))
        return updated_node.with_changes(args=[given, *updated_node.args[1:]])

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        if not self.found:
            return updated_node
        body = list(updated_node.body)
        at = next((i for i, statement in enumerate(body) if not _leads(statement)), len(body))
        texts = [_CLASS.format(kind=KIND, nn=self._nn())]
        if self._made.lists:
            texts.append(_GROUP.format(kind=KINDS, nn=self._nn()))
        spaced = [cst.EmptyLine(indent=False)] * 2
        made = [cst.parse_statement(text).with_changes(leading_lines=spaced) for text in texts]
        body[at:at] = made
        if at + len(made) < len(body):
            follows = body[at + len(made)]
            lines = [*spaced, *(e for e in follows.leading_lines if e.comment)]
            body[at + len(made)] = follows.with_changes(leading_lines=lines)
        return updated_node.with_changes(body=body)


def _parameters(name: str) -> cst.Call:
    return cst.Call(cst.Attribute(cst.Name(name), cst.Name("parameters")))


def _adds(node: Any) -> bool:
    return isinstance(node, cst.BinaryOperation)


def _leads(statement: Any) -> bool:
    """Whether a statement may stand above the classes of a file: an import, or a text."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    small = statement.body[0]
    text = isinstance(small, cst.Expr) and isinstance(small.value, cst.SimpleString)
    return text or isinstance(small, (cst.Import, cst.ImportFrom))
