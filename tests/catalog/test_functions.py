"""One entry a function: served by translate, port and analyze, or with a reason; known once."""

import re

import pytest

from tests.support import need

need("torch", "mlx.core", "libcst")

import torch2mlx
from tests.catalog.served import GROUPS, lowered, refused
from tests.porting.expressions import expressions
from tests.porting.test_expressions import values
from torch2mlx.catalog.functions.entry import op
from torch2mlx.catalog.functions.table import FUNCTIONS, find_function, gathered
from torch2mlx.catalog.op_mapping import lookup_op

#: Functions that are there in place alone, and the other name of no method.
IN_PLACE = {"torch.zero_", "torch.embedding_renorm_"}


def test_what_translate_lowers_port_writes_or_says_why_not():
    for full in refused():
        name = full.replace("torch.Tensor.", "torch.").rstrip("_")
        entry = find_function(name)
        assert full in IN_PLACE or (entry is not None and not entry.written and entry.note), full


def lowered_names():
    """Full names of functions and methods whose operator has a lowering."""
    assert len(GROUPS) == 6
    return {f"{'torch' if group == 'torch.Tensor' else group}.{name}" for group, name in lowered()}


#: What functions return whose results are constants while a model is traced.
OF_PYTHON = ("bool", "int", "float", "numbers", "numpy", "unknown")


def defined_by_others():
    """Entries that torch writes by other operators before translate sees them."""
    names = lowered_names()
    for full, entry in FUNCTIONS.items():
        same = {full, f"{full}_", full.replace("torch.nn.functional.", "torch.")}
        traced = not entry.untraced and entry.returns not in OF_PYTHON
        if not same & names and entry.written and traced:
            yield entry


def translated(lines):
    """A model that gives all of them, in MLX."""
    space = {}
    parts = "".join(f"            {line},\n" for line in lines)
    exec(
        "import torch\nimport numpy as np\nimport torch.nn.functional as F\n\n\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x, y, z, s, v, i, j, m):\n"
        f"        return (\n            x.sum(),\n{parts}        )\n",
        space,
    )
    return torch2mlx.translate(space["Net"](), tuple(values().values()), dynamic=False, check=False)


@pytest.mark.filterwarnings("ignore")
def test_every_entry_is_served_by_translate_or_says_why_not():
    """By a lowering of its name, or because torch writes it by other operators."""
    lines = sorted({called(entry)[0] for entry in defined_by_others()})
    assert len(lines) > 40
    for at in range(0, len(lines), 16):
        made = translated(lines[at : at + 16])
        assert "def __call__(self" in made.source


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("full", [full for full, entry in FUNCTIONS.items() if entry.untraced])
def test_what_is_said_not_to_be_traced_is_not(full):
    with pytest.raises(torch2mlx.errors.ExportError, match=r"^torch\.export cannot trace Net"):
        translated(called(find_function(full))[:1])


@pytest.mark.parametrize("full", FUNCTIONS)
def test_every_entry_has_a_row_for_analyze(full):
    entry, row = find_function(full), lookup_op(full)
    assert row is not None and row.torch == full
    assert (row.status == "none") == (entry.mlx == "")
    assert entry.written or entry.note, "say why a port refuses it"


@pytest.mark.parametrize("full", [full for full, entry in FUNCTIONS.items() if entry.written])
def test_every_entry_that_port_writes_is_run_in_both_frameworks(full):
    assert called(find_function(full)), "one line in tests/porting/new_names.py"


def called(entry):
    """The expressions of the tests that call a function, or the method of its name."""
    group, _, name = entry.name.rpartition(".")
    place = {"": r"\.", "nn.functional": r"\bF\."}.get(group, rf"\btorch\.{group}\.")
    pattern = re.compile(rf"{place}{name}_?\(")
    return [line for line in expressions() if pattern.search(line)]


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
