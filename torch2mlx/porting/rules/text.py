"""Nodes as text, and text as nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.porting.rules.render import Argument
from torch2mlx.porting.scopes.traversal import code as code

#: Expressions that need no brackets wherever they stand.
_SINGLE = (
    *(cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.List, cst.Integer, cst.Float),
    *(cst.SimpleString, cst.Dict, cst.ListComp),
)
#: Expressions that may need some.
_COMPOUND = (
    *(cst.BinaryOperation, cst.Comparison, cst.UnaryOperation, cst.BooleanOperation),
    cst.IfExp,
)


def expression(text: str) -> cst.BaseExpression:
    """A text as an expression; in brackets where it is no single term."""
    made = cst.parse_expression(text)
    if isinstance(made, _SINGLE) or made.lpar:
        return made
    return made.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def bare(node: Any, original: Any) -> Any:
    """An expression without the brackets that `expression` gave it, where none were before."""
    added = (
        isinstance(node, _COMPOUND) and len(node.lpar) == 1 and not getattr(original, "lpar", ())
    )
    if added and not isinstance(original, _COMPOUND) and "\n" not in code(node):
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


def as_int(node: Any) -> cst.BaseExpression:
    """A tensor of one element as the number that Python's own places take."""
    return cst.Call(cst.Name("int"), [cst.Arg(node)])
