"""Expressions in the place of names, and names that nothing else has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libcst as cst


class Filled(cst.CSTTransformer):
    """Puts expressions in the place of names, wherever these stand for a value; brackets around a
    name stay: `if(x):` has no other space."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        self._given = given

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(keyword=original_node.keyword)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        given = self._given.get(original_node.value)
        if given is None:
            return updated_node
        made = given.deep_clone()
        left = [*updated_node.lpar, *made.lpar]
        return made.with_changes(lpar=left, rpar=[*made.rpar, *updated_node.rpar])


def fresh_name(name: str, used: set[str]) -> str:
    """A name, or with a number behind it, that is not used; it is from then on."""
    made, count = name, 1
    while made in used:
        count += 1
        made = f"{name}_{count}"
    used.add(made)
    return made
