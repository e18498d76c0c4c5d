"""docs/adding-an-op.md, followed: its entry, under the name of a function that has none."""

import ast
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx import op_mapping
from torch2mlx.analyzer import analyze
from torch2mlx.catalog import op_mapping as rows
from torch2mlx.catalog.functions import layout, table
from torch2mlx.catalog.functions.entry import Entry, op

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-op.md"
#: A function that no entry has: what it is in torch, and its name in the page's text.
SCRATCH, SHOWN = "scratch_hypot", "hypot"


def shown_entry():
    """The call of `op` that the page shows, for the scratch function."""
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    text = block[1].replace(f'"{SHOWN}"', f'"{SCRATCH}"')
    lines = text.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return eval("\n".join(line[margin:] for line in lines), {"op": op})


@pytest.fixture
def added(monkeypatch):
    """The package with the scratch entry, and torch with the function."""
    monkeypatch.setattr(torch, SCRATCH, torch.hypot, raising=False)
    (entry,) = shown_entry()
    full = f"torch.{SCRATCH}"
    known = table.gathered([*(family.ENTRIES for family in table.FAMILIES), [(entry,)]])
    monkeypatch.setattr(table, "FUNCTIONS", MappingProxyType(known))
    monkeypatch.setattr(layout, "FUNCTIONS", table.FUNCTIONS)
    monkeypatch.setitem(rows._BUILTIN, full, rows._row(full, entry))
    return entry


def test_the_entry_of_the_page_is_the_one_of_the_package():
    (entry,) = shown_entry()
    there = table.find_function(f"torch.{SHOWN}")
    assert (entry.mlx, entry.layout, entry.note) == (there.mlx, there.layout, there.note)
    assert [form.text for form in entry.forms] == [form.text for form in there.forms]


def test_port_writes_the_function_and_the_method(added):
    source = (
        "import torch\n\n\ndef f(x: torch.Tensor, y: torch.Tensor):\n"
        f"    return torch.{SCRATCH}(x, y) + x.{SCRATCH}(y)\n"
    )
    ported = torch2mlx.port(source)
    assert ported.ok, ported.unsupported
    x, y = torch.randn(3, 4), torch.randn(4)
    found = executed(ported.source, "adding").f(mx.array(x.numpy()), mx.array(y.numpy()))
    np.testing.assert_allclose(np.array(found), 2 * torch.hypot(x, y).numpy(), rtol=1e-5)


def test_op_mapping_has_a_row(added):
    row = op_mapping.lookup_op(f"torch.{SCRATCH}")
    assert (row.mlx, row.status) == ("torch2mlx.kit.elementwise.hypot", "kit")
    assert row in op_mapping.known_ops()


def test_translate_has_the_operator(added):
    library = torch.library.Library("aten", "FRAGMENT")
    library.define(f"{SCRATCH}(Tensor self, Tensor other) -> Tensor")
    library.impl(SCRATCH, _hypot, "CompositeExplicitAutograd")
    model = Called().eval()
    for x, y in ((torch.randn(3, 4), torch.randn(4)), (torch.randn(2, 2), torch.arange(2))):
        made = torch2mlx.translate(model, (x, y))
        found = made.module(*(mx.array(v.numpy()) for v in (x, y)))
        np.testing.assert_allclose(np.array(found), torch.hypot(x, y.float()).numpy(), rtol=1e-5)
    assert "kit.elementwise.hypot(" in made.source


def _hypot(x, y):
    return torch.hypot(x, y.to(x.dtype))


class Called(torch.nn.Module):
    def forward(self, x, y):
        return getattr(torch.ops.aten, SCRATCH)(x, y)


class Before(torch.nn.Module):
    def forward(self, x):
        return torch.scratch_hypot(x, x)


class After(torch.nn.Module):
    def forward(self, x):
        return torch.scratch_hypot(x, x)


def test_analyze_knows_it(monkeypatch):
    monkeypatch.setattr(torch, SCRATCH, lambda x, y: torch.hypot(x, y), raising=False)
    torch.scratch_hypot.__module__, torch.scratch_hypot.__name__ = "torch", SCRATCH

    def unknown(model):
        return [f for f in analyze(model).findings if SCRATCH in str(f)]

    before = unknown(Before())  # what is found of a class is kept
    (entry,) = shown_entry()
    full = f"torch.{SCRATCH}"
    monkeypatch.setitem(rows._BUILTIN, full, rows._row(full, entry))
    assert [f.rule for f in before] == ["T2M102"] and not unknown(After())


def test_its_layout_is_read_from_the_entry(added):
    assert SCRATCH in layout.functions_with.__wrapped__("pairwise")
    assert {"mx.sqrt", "mx.square", "operator.add"} <= layout.itemwise_calls.__wrapped__()


def test_the_name_of_a_function_that_has_an_entry_is_refused():
    (entry,) = op(SHOWN, "input other | mx.maximum({input}, {other})")
    with pytest.raises(ValueError, match=rf"^torch\.{SHOWN} has an entry already$"):
        table.gathered([*(family.ENTRIES for family in table.FAMILIES), [(entry,)]])


def test_the_page_names_every_keyword_of_an_entry():
    tree = ast.parse(Path(op.__code__.co_filename).read_text())
    (made,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "op")
    text = PAGE.read_text()
    for argument in made.args.kwonlyargs:
        assert f"`{argument.arg}`" in text or f"`{argument.arg}=" in text, argument.arg
    assert Entry.__dataclass_fields__.keys() >= {a.arg for a in made.args.kwonlyargs}
