"""What a function does to the order of axes is said once: in torch, translate and port it is so."""

import re
from textwrap import indent

import pytest

from tests.porting.expressions import expressions
from tests.support import need

need("torch", "mlx.core", "libcst")

import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx.catalog.functions.layout import is_elementwise_layer
from torch2mlx.catalog.functions.table import FUNCTIONS

ALIKE = ("elementwise", "pairwise", "itemwise")
#: Functions whose result says nothing of items, or that take arrays which are no images.
ASIDE = frozenset(
    [
        *("rand_like", "randn_like", "empty_like", "cuda", "pin_memory", "requires_grad_"),
        *("expand_as", "masked_fill", "bfloat16", "double", "half", "full_like", "ldexp"),
    ]
)
#: Names of functions and methods that treat items alike.
NAMES = {e.name.rpartition(".")[2] for e in FUNCTIONS.values() if e.layout in ALIKE}
TURN, BACK = (0, 2, 3, 1), (0, 3, 1, 2)


def sample(entry):
    """The first expression over x, y, i, j and m that calls a function; "" where there is none."""
    short = entry.name.rpartition(".")[2]
    group = entry.name.removeprefix("nn.functional.").rpartition(".")[0]
    called = rf"(?:F|\w)\.{short}\(" if not group else rf"torch\.{group}\.{short}\("
    for line in expressions():
        alike = all(name in NAMES for name in re.findall(r"\.(\w+)\(", line))
        if re.search(called, line) and alike and not re.search(r"\b[zsv]\b|\[|\.T\b", line):
            return line
    return ""


SAMPLES = {
    full: sample(entry)
    for full, entry in FUNCTIONS.items()
    if entry.layout in ALIKE and entry.name.rpartition(".")[2] not in ASIDE and sample(entry)
}


def images(h):
    """The arrays that expressions name, as images."""
    return {"x": h, "y": h * 0.5 - 1, "i": (8 * h).int(), "j": (4 * h).int().abs() + 1, "m": h > 0}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("full", SAMPLES)
def test_what_is_said_to_treat_items_alike_does_so_in_torch(full):
    code = compile(SAMPLES[full], "<sample>", "eval")
    h = torch.randn(2, 3, 4, 5)
    plain = eval(code, {"torch": torch, "F": F}, images(h))
    turned = eval(code, {"torch": torch, "F": F}, images(h.permute(*TURN).contiguous()))
    torch.testing.assert_close(turned.permute(*BACK), plain, equal_nan=True)


def network(lines):
    """A network with the expressions between two convolutions, as source."""
    body = "\n".join(f"t = t + ({line}).to(torch.float32)" for line in lines)
    return f"""\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(4, 2, 3)

    def forward(self, h):
        x = self.a(h)
        y, i, j, m = x * 0.5 - 1, (8 * x).int(), (4 * x).int().abs() + 1, x > 0
        t = x
{indent(body, "        ")}
        return self.b(t)
"""


def test_most_functions_that_treat_items_alike_are_tried():
    wanted = [e for e in FUNCTIONS.values() if e.layout in ALIKE]
    assert len(SAMPLES) > 0.8 * len(wanted)


def lines_for_translate():
    """Expressions that torch.export takes, each once, in lists of a dozen."""
    lines = sorted({line for line in SAMPLES.values() if " if " not in line})
    return [lines[at : at + 24] for at in range(0, len(lines), 24)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lines", lines_for_translate(), ids=lambda lines: lines[0])
def test_translate_turns_nothing_for_them(lines):
    space = {}
    exec(compile(network(lines), "<network>", "exec"), space)
    model = space["Net"]().eval()
    made = torch2mlx.translate(model, (torch.rand(2, 3, 8, 8),), dynamic=False, check=False)
    turned = [line for line in made.source.splitlines() if ".transpose(" in line]
    assert made.source.count(".transpose(") == 2, turned


def test_port_turns_nothing_for_them():
    plain = ("polygamma", "type_as")  # of which the array is not the first, or not the other
    lines = {line for line in SAMPLES.values() if not any(name in line for name in plain)}
    ported = torch2mlx.port(network(sorted(lines)))
    assert ported.ok, ported.unsupported
    assert ported.source.count("kit.to_last(") == 1, ported.source
    assert ported.source.count("kit.to_first(") == 1, ported.source
    assert "channels_first" not in ported.source


LAYERS = sorted(name for name in dir(nn) if name[0].isupper() and is_elementwise_layer(name))


def test_layers_are_those_whose_functions_treat_items_alike():
    functions = {name.lower() for name in LAYERS} - {"identity"}
    names = {e.name.rpartition(".")[2].replace("_", "") for e in FUNCTIONS.values()}
    assert functions <= names
    assert len(LAYERS) == 25
    assert not {"PReLU", "GLU", "Softmax", "Softmin", "Dropout2d", "BatchNorm2d"} & set(LAYERS)


def layer(name):
    """A layer with its defaults, but for what has none."""
    return getattr(nn, name)(*({"Threshold": (0.1, 0.0)}.get(name, ())))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_treat_items_alike_in_torch(name):
    h, made = torch.randn(2, 3, 4, 5), layer(name).eval()
    torch.testing.assert_close(made(h.permute(*TURN)).permute(*BACK), made(h))


def test_translate_turns_nothing_for_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *map(layer, LAYERS), nn.Conv2d(4, 4, 3)).eval()
    made = torch2mlx.translate(model, (torch.rand(2, 3, 8, 8),), dynamic=False)
    assert made.source.count(".transpose(") == 2, made.source


def test_a_layer_and_its_function_are_written_with_the_same_turns_in_a_port():
    names = [name for name in LAYERS if name != "Identity"]
    given = {"Threshold": "(0.1, 0.0)"}
    made = [f"nn.{name}{given.get(name, '()')}" for name in names]
    text = network(["self.c(x)"]).replace(
        "        self.b =", f"        self.c = nn.Sequential({', '.join(made)})\n        self.b ="
    )
    ported = torch2mlx.port(text)
    assert ported.ok and ported.source.count("kit.to_first(") == 1, ported.source
