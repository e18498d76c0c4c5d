"""`getattr(nn, "ReLU")` is `nn.ReLU`: what is known before the program runs is written as it is."""

from __future__ import annotations

import keyword
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names


class LiteralAttributes(cst.CSTTransformer):
    """Rewrites getattr of a literal name and what an import of torch stands for."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        func, given = original_node.func, updated_node.args
        if not isinstance(func, cst.Name) or func.value != "getattr" or len(given) != 2:
            return updated_node
        name = given[1].value
        full = self._names.of(original_node.args[0].value)
        if not isinstance(name, cst.SimpleString) or full.partition(".")[0] != "torch":
            return updated_node
        word = name.evaluated_value
        if not isinstance(word, str) or not word.isidentifier() or keyword.iskeyword(word):
            return updated_node
        return cst.Attribute(given[0].value, cst.Name(word))
