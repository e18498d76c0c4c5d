"""Passes over a file: what rules see, which nodes stay, how trees that share them are printed."""

import pytest

from tests.support import need

need("libcst")

import libcst as cst

import torch2mlx.porting.rules.rewrite
import torch2mlx.porting.types.infer  # noqa: F401 (both register rules)
from torch2mlx.porting.rules.place import leaving
from torch2mlx.porting.scopes.passes import passed, printed
from torch2mlx.porting.scopes.traversal import everything, of_kinds
from torch2mlx.porting.types.walk import types

TEXT = """# above

def f(x):  # beside
    if x:
        return g(x)
    return [x, x]

y = f(1); z = 2
"""


class Doubled(cst.CSTTransformer):
    """Writes each return twice, the same node."""

    def leave_SimpleStatementLine(self, original_node, updated_node):
        if not isinstance(updated_node.body[0], cst.Return):
            return updated_node
        return cst.FlattenSentinel([updated_node, updated_node])


class Kept(cst.CSTTransformer):
    """Makes blocks anew of what they hold."""

    def leave_IndentedBlock(self, original_node, updated_node):
        return updated_node.with_changes(body=list(updated_node.body))


class Renamed(cst.CSTTransformer):
    def leave_Name(self, original_node, updated_node):
        return updated_node.with_changes(value="w") if updated_node.value == "x" else updated_node


@pytest.mark.parametrize("rules", [Doubled, Kept, Renamed])
def test_a_pass_does_what_libcst_does(rules):
    module = cst.parse_module(TEXT)
    assert passed(module, rules()).code == module.visit(rules()).code


def test_a_pass_that_changes_nothing_gives_the_same_tree():
    module = cst.parse_module(TEXT)
    assert passed(module, Kept()) is module


def test_no_node_stands_at_two_places_after_a_pass():
    made = passed(cst.parse_module(TEXT), Doubled())
    nodes = everything(made)
    assert len(of_kinds(made, cst.Return)) == 4
    assert len(nodes) == len(set(nodes))


def test_rules_of_statements_leave_expressions_the_same_nodes():
    module = cst.parse_module(TEXT)
    (before,), (after,) = (
        [c for c in of_kinds(tree, cst.Call) if c.func.value == "f"]
        for tree in (module, passed(module, Doubled()))
    )
    assert before is after


def test_nodes_of_kinds_come_in_the_order_of_the_source():
    module = cst.parse_module(TEXT)
    kinds = (cst.Return, cst.Assign, cst.FunctionDef, cst.If)
    assert of_kinds(module, *kinds) == [n for n in everything(module) if isinstance(n, kinds)]


@pytest.mark.parametrize(
    "text", [TEXT, TEXT.rstrip("\n"), "", "# alone\n", "\tx = 1\n".strip("\t")]
)
def test_a_file_is_printed_as_libcst_prints_it(text):
    module, texts = cst.parse_module(text), {}
    assert printed(module, texts) == printed(module, texts) == module.code == text


def test_two_rules_for_one_kind_of_node_are_an_error():
    for registered in (types, leaving):
        with pytest.raises(AssertionError, match="another rule has"):
            registered(cst.Call)(lambda *given: None)
