"""One entry a function: served by translate, port and analyze, or with a reason; known once."""

import pytest

from tests.support import need

need("torch", "mlx.core", "libcst")

import torch2mlx
from tests.catalog.served import GROUPS, lowered, refused
from tests.porting.new_names import EXPRESSIONS
from torch2mlx.catalog.functions.entry import op
from torch2mlx.catalog.functions.forms import table_forms
from torch2mlx.catalog.functions.table import FUNCTIONS, find_function, gathered
from torch2mlx.catalog.op_mapping import lookup_op, table_rows

#: Functions that are there in place alone, and the other name of no method.
IN_PLACE = {"torch.zero_", "torch.embedding_renorm_"}


def test_what_translate_lowers_port_writes_or_says_why_not():
    for full in refused():
        name = full.replace("torch.Tensor.", "torch.").rstrip("_")
        entry = find_function(name)
        assert full in IN_PLACE or (entry is not None and not entry.forms and entry.note), full


def test_every_entry_is_lowered_by_translate():
    names = {f"{'torch' if group == 'torch.Tensor' else group}.{name}" for group, name in lowered()}
    assert len(GROUPS) == 6
    for full in FUNCTIONS:
        short = full.replace("torch.nn.functional.", "torch.")
        assert {full, f"{full}_", short} & names, full


@pytest.mark.parametrize("full", FUNCTIONS)
def test_every_entry_has_a_row_for_analyze(full):
    entry, row = find_function(full), lookup_op(full)
    assert row is not None and row.torch == full
    assert row.status == ("none" if not entry.forms else row.status)
    assert entry.forms or entry.note


def test_every_entry_that_port_writes_is_run_in_both_frameworks():
    for full, entry in FUNCTIONS.items():
        name = full.rpartition(".")[2]
        assert not entry.forms or f".{name}(" in EXPRESSIONS, full


def test_no_function_is_known_twice():
    assert not set(FUNCTIONS) & set(table_rows()), "in a table of op_mapping too"
    assert not set(FUNCTIONS) & set(table_forms()), "in a table of forms too"
    assert len(set(table_rows())) == len(table_rows())


def test_an_entry_of_a_name_that_has_one_is_an_error():
    with pytest.raises(ValueError, match=r"^torch\.abs has an entry already$"):
        gathered([[op("abs", "input | mx.abs({input})"), op("absolute abs", mlx="abs")]])


def test_a_text_that_is_no_call_needs_the_name_it_stands_for():
    with pytest.raises(ValueError, match=r"^frac: its text is no call, so that mlx= has to be"):
        op("frac", "input | {input!} - mx.trunc({input})")


def test_a_function_without_a_form_is_refused_with_its_reason():
    ported = torch2mlx.port("import torch\n\n\ndef f(x, h, w):\n    return torch.lstm(x, h, w)\n")
    assert not ported.ok
    assert "use torch.nn.LSTM, GRU or RNN" in ported.unsupported[0].reason


def test_a_view_by_strides_is_told_to_be_checked():
    text = "import torch\n\n\ndef f(x: torch.Tensor):\n    return {}.as_strided({}(2, 2), (4, 1))\n"
    for call in (text.format("torch", "x, "), text.format("x", "")):
        (change,) = (c for c in torch2mlx.port(call).changes if "as_strided" in c.what)
        assert "row by row" in change.check


def test_losses_under_torch_have_the_default_of_torch():
    """torch.kl_div(x, y) is not reduced, torch.nn.functional.kl_div(x, y) is."""
    text = (
        "import torch\nfrom torch.nn import functional as F\n\n\ndef f(x, y, t):\n    return {}\n"
    )
    plain = torch2mlx.port(text.format("torch.margin_ranking_loss(x, y, t)")).source
    mean = torch2mlx.port(text.format("F.margin_ranking_loss(x, y, t)")).source
    assert "kit.losses.margin_ranking_loss(x, y, t, reduction=0)" in plain
    assert "kit.losses.margin_ranking_loss(x, y, t)" in mean


@pytest.mark.parametrize("call", ["max_pool2d({}, 2)", "prelu({}, w)", "group_norm({}, 2)"])
def test_layers_as_functions_under_torch_are_given_images_as_torch_has_them(call):
    text = (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
    )
    text += "        super().__init__()\n        self.a = nn.Conv2d(3, 4, 3)\n\n"
    text += "    def forward(self, x, w):\n        return torch." + call.format("self.a(x)") + "\n"
    source = torch2mlx.port(text).source
    assert "kit.channels_first." in source
    assert "kit.to_first(self.a(" in source or "channels_first.Conv2d(" in source
