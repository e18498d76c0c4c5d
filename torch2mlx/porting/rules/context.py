"""What the families of rules share: types, names, the report, and text of nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.render import Argument
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.sharing import Sharing
from torch2mlx.porting.types.torch_calls import is_of_tensors

_EMPTY = cst.Module([])


def code(node: Any) -> str:
    """The source of a node."""
    return _EMPTY.code_for_node(node)


class State(cst.CSTTransformer):
    """The base of the rewriting families."""

    def __init__(self, names: Names, inference: Types, report: Report) -> None:
        super().__init__()
        self.names, self.inference, self.report = names, inference, report
        self.sharing: Sharing | None = None  # of the file's tensors, between its names
        self.classes: list[str] = []  # that are being rewritten, outermost first
        self.functions: list[str] = []
        self.current: Any = None  # the statement that is being rewritten
        self.traced: set[str] = set()  # functions that a gradient may be taken of
        self.trouble: dict[cst.CSTNode, list[str]] = {}  # reasons by statement

    def type_of(self, node: Any) -> Type:
        """The type of an expression of the source."""
        return self.inference.of(node)

    def in_module(self) -> bool:
        """Whether the place is in a class that is an nn.Module."""
        return bool(self.classes) and self.inference.is_module_class(self.classes[-1])

    def is_tensor(self, node: Any, method: str = "") -> bool:
        """Whether an expression surely is a tensor, also by a method that only tensors have."""
        kind = self.type_of(node)
        if kind.tensor or self.names.shared(node):
            return kind.tensor
        return kind.kind in ("unknown", "none") and is_of_tensors(method)

    def change(self, node: Any, what: str, why: str, check: str = "") -> None:
        """Notes a rewrite."""
        self.report.change(self.current or node, what, why, check)

    def refuse(
        self, node: Any, detail: str, name: str = "", code: Code = Code.NO_COUNTERPART
    ) -> None:
        """Notes what stays, beside its statement; `name`: what of torch it is, by its full name."""
        made = self.report.refuse(self.current or node, detail, name, code)
        if self.current is not None:
            self.trouble.setdefault(self.current, []).append(made.reason)

    def ask(self, call: cst.Call, method: str) -> None:
        """Asks what the name holds that a method is called on, where it is a name."""
        owner = call.func.value  # type: ignore[attr-defined]
        place = self.inference.unknown.get(owner)
        if place is not None:
            name = owner.attr.value if isinstance(owner, cst.Attribute) else owner.value
            self.report.ask(self.current or call, name, place, method)

    def arguments(self, original: cst.Call, updated: cst.Call) -> list[Argument]:
        """Arguments of a call: keyword, text in MLX, star and kind."""
        made = []
        for old, new in zip(original.args, updated.args, strict=True):
            keyword = old.keyword.value if old.keyword is not None else ""
            kind = self.type_of(old.value).kind
            made.append(Argument(keyword, code(new.value), old.star, kind))
        return made


def expression(text: str) -> cst.BaseExpression:
    """A text as an expression; in brackets where it is no single term."""
    made = cst.parse_expression(text)
    single = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.List, cst.Integer, cst.Float)
    single += (cst.SimpleString, cst.Dict, cst.ListComp)
    if isinstance(made, single) or made.lpar:
        return made
    return made.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def bare(node: Any, original: Any) -> Any:
    """An expression without the brackets that `expression` gave it, where none were before."""
    kinds = (cst.BinaryOperation, cst.Comparison, cst.UnaryOperation, cst.BooleanOperation)
    kinds += (cst.IfExp,)
    added = isinstance(node, kinds) and len(node.lpar) == 1 and not getattr(original, "lpar", ())
    if added and not isinstance(original, kinds) and "\n" not in code(node):
        return node.with_changes(lpar=[], rpar=[])
    return node


def drop_keywords(arguments: list[Argument], names: Any) -> list[Argument]:
    """Arguments without some keywords."""
    return [a for a in arguments if a.keyword not in names]


def again(
    target: str,
    call: cst.Call,
    gone: Collection[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> cst.Call:
    """A call of another function, without some keywords, others renamed: lines and comments stay
    as they are."""
    args = [a for a in call.args if a.keyword is None or a.keyword.value not in gone]
    args = [
        a
        if a.keyword is None or a.keyword.value not in renamed
        else a.with_changes(keyword=cst.Name(renamed[a.keyword.value]))
        for a in args
    ]
    if args:
        last = call.args[-1]
        args[-1] = args[-1].with_changes(
            comma=last.comma, whitespace_after_arg=last.whitespace_after_arg
        )
    return call.with_changes(func=cst.parse_expression(target), args=args)


def joined(arguments: list[Argument]) -> str:
    """Arguments as text."""
    return ", ".join(f"{a.keyword}={a.text}" if a.keyword else a.star + a.text for a in arguments)
