"""What is printed is Python that means what the program means: names that hide nothing, slices with
lengths in them, and never the text of an inner object."""

import ast
import builtins

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.render import literal
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.lower.ops import registry
from torch2mlx.export.printing.wrap import wrapped


def unknown_names(source):
    """Names that a file reads and neither makes nor imports nor finds among the builtins."""
    tree, made = ast.parse(source), set(dir(builtins)) | {"mlx"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - made


def agrees(model, args, *others, kwargs=None):
    """The translation of a model in evaluation, compared for the arguments and for others."""
    made = torch2mlx.translate(model.eval(), args, kwargs)
    assert not unknown_names(made.source) and "slice(None, None, None)" not in made.source
    for given in (args, *others):
        found = torch2mlx.verify(model, made, given, kwargs)
        assert found.ok and found.difference < 1e-5, str(found)
    return made


class Awkward(nn.Module):
    """Arguments named like modules of MLX, like builtins, and with underscores at their ends."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Linear(3, 4), nn.Linear(3, 4)
        self.mx, self.items = nn.Linear(3, 4), nn.ModuleList([nn.Linear(3, 4)])
        self.add_module("lambda", nn.LayerNorm(4))

    def forward(self, L_x_, mx, max, kit_, class_, factor=2.0):
        keys = self.keys(L_x_) + self.mx(mx) * mx.shape[0]
        norm = getattr(self, "lambda")(keys)
        return norm.clamp(max=0.5) + self.values(max) * factor + self.items[0](kit_ - class_)


@pytest.fixture
def five():
    return [torch.randn(2, 3, generator=torch.Generator().manual_seed(i)) for i in range(5)]


def test_arguments_keep_their_names(five):
    model = Awkward()
    made = agrees(model, tuple(five), tuple(torch.cat([x, x]) for x in five))
    names = ("L_x_", "mx", "max", "kit_", "class_")
    found = made.module(**{n: to_mlx(x) for n, x in zip(names, five, strict=True)})
    np.testing.assert_allclose(found, model(*five).detach(), atol=1e-5)


def test_an_argument_may_be_called_self(five):
    class Odd(nn.Module):
        def forward(module, self, mode='a "quoted" \\ word'):
            return self * 2

    made = torch2mlx.translate(Odd(), (five[0], 'a "quoted" \\ word'))
    assert np.array_equal(made.module(to_mlx(five[0])), five[0] * 2)
    with pytest.raises(ValueError, match="translated with mode="):
        made.module(to_mlx(five[0]), mode="another")


@pytest.mark.parametrize("name", ("mx", "load", "super", "ValueError", "a b"))
def test_classes_hide_nothing_of_the_file(name, five):
    def __init__(self):
        nn.Module.__init__(self)
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x).relu() + 1

    inner = type(name, (nn.Module,), {"__init__": __init__, "forward": forward})
    agrees(nn.Sequential(inner(), nn.Linear(3, 2)), (five[0],))


class Slices(nn.Module):
    """Slices whose ends are lengths, read and written, on any axis."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(10, 3))

    def forward(self, x, y):
        n = x.shape[0]
        cache, x = self.cache.clone(), x.clone()
        cache[:n] = x
        cache[n : 2 * n, 1:] += y[:, 1:]
        x[:, : y.shape[1] // 2] = y[:, y.shape[1] - y.shape[1] // 2 :]
        x[n // 2 :, ::2] *= 3
        x[-1] = cache[n - 1] - 1
        return cache, x, torch.slice_scatter(cache, y, 0, n, 2 * n)


def test_slices_hold_lengths(five):
    more = torch.randn(5, 3), torch.randn(5, 3)
    agrees(Slices(), (five[0], five[1]), more)


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(6, 3))

    def forward(self, x):
        self.cache[: x.shape[0]] = x
        return self.cache.sum(0)


def test_a_buffer_is_written_up_to_a_length(five):
    model = Overwriting()
    made = torch2mlx.translate(model, (five[0],))
    for x in (five[0], torch.randn(4, 3), torch.randn(1, 3)):
        np.testing.assert_allclose(made.module(to_mlx(x)), model(x), atol=1e-6)


def test_constants_are_written_as_source_or_refused():
    for value in (
        1,
        -2.5,
        True,
        None,
        "a'b\"c\\\n\r\té",
        (1, (2.0,)),
        [None],
        {"a": (1,)},
        2 + 1j,
        ...,
    ):
        assert ast.literal_eval(literal(value)) == value
    assert literal(np.float64(0.5)) == "0.5" and literal(torch.Size([2])) == "(2,)"
    assert literal((np.int64(3), np.float32(0.5), np.bool_(True))) == "(3, 0.5, True)"
    assert literal((float("inf"), float("-inf"))) == "(mx.inf, -mx.inf)"
    for value in (object(), torch.float32, slice(1), np.zeros(2)):
        with pytest.raises(TranslationError, match="cannot be written into source"):
            literal(value)


class Keys(nn.Module):
    """Keys that hold what ends a string, on the way in and out."""

    def forward(self, given):
        return {key: given[key] * i for i, key in enumerate(given)}


def test_keys_are_written_as_source():
    given = {key: torch.ones(2, 3) for key in ("it's", "a\nb", 'say "{x}"', "back\\", "ok")}
    agrees(Keys(), (given,), {key: torch.ones(4, 5) for key in given})
    made = torch2mlx.translate(Keys(), (given,), dynamic=False).module
    for key in given:
        shorter = {**given, key: torch.ones(2, 2)}
        with pytest.raises(ValueError) as caught:
            made(to_mlx(shorter))
        assert str(caught.value).startswith(f"given[{literal(key)}]".replace('["ok"]', "['ok']"))


def test_a_lowering_is_given_again(monkeypatch):
    monkeypatch.setattr(registry, "_USERS", {})
    model, x = nn.ReLU(), torch.tensor([-1.0, 2.0])
    torch2mlx.lowers("aten::tanh")(lambda b, self: b.call("mx.exp", self))
    torch2mlx.lowers("aten::tanh")(lambda b, self: b.call("operator.mul", self, 3))

    class Uses(nn.Module):
        def forward(self, x):
            return x.tanh()

    found = torch2mlx.translate(Uses(), (x,), check=False).module(to_mlx(x))
    assert found.tolist() == [-3.0, 6.0]
    assert torch2mlx.translate(model, (x,)).module(to_mlx(x)).tolist() == [0.0, 2.0]


def test_a_lowering_of_no_operator_is_refused(monkeypatch):
    monkeypatch.setattr(registry, "_USERS", {})
    for name in ("aten::relu6x", "aten::add.Nope", "relu"):
        with pytest.raises(ValueError, match=r"no such operator|namespace"):
            torch2mlx.lowers(name)(lambda b, self: self)
    torch2mlx.lowers("no::such")(lambda b, self: self)  # it may still be defined
    with pytest.raises(TranslationError, match=r"no::such.*torch has no such operator"):
        torch2mlx.translate(nn.ReLU(), (torch.ones(2),))
    assert torch2mlx.translate(nn.ReLU(), (torch.ones(2),)).source  # told once


def test_a_lowering_from_a_cell_without_a_module_is_the_users(monkeypatch):
    monkeypatch.setattr(registry, "_USERS", {})
    space = {"lowers": torch2mlx.lowers}
    exec("@lowers('mylib::celled')\ndef celled(b, x):\n    return x", space)
    assert list(registry._USERS.values()) == [space["celled"]]


def test_a_tuple_of_one_stays_one_when_its_line_is_broken():
    calls = ", ".join(f"argument_number_{i}" for i in range(7))
    for line in (f"answer = (layer({calls}),)", f"answer = ({calls.replace(', ', ' + ')},)"):
        lines = wrapped(line, 0)
        assert len(lines) > 1
        assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(line))


@pytest.mark.parametrize("sign", ("<=", "&", "+", "and"))
def test_a_long_line_of_two_operands_gets_brackets_of_its_own(sign):
    one = "mx.arange(L, dtype=mx.int64)[None, None, None]"
    other = "mx.arange(L, dtype=mx.int64)[None, None, :, None]"
    for head in ("attention_mask = ", "self.attentions = "):
        lines = wrapped(f"{head}{one} {sign} {other}", 8)
        pad = 12 * " "
        assert lines == [f"        {head}(", pad + one, f"{pad}{sign} {other}", "        )"]
