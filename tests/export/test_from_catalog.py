"""Operators that an entry of the catalogue lowers: values, dtypes, gradients, what is printed."""

import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import torch
import torch.nn.functional as F

import torch2mlx
from torch2mlx.catalog.functions.entry import Form, op
from torch2mlx.export.ir.builder import Builder, Refuse
from torch2mlx.export.lower.ops import from_catalog


class Calls(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def source_of(function, x):
    return torch2mlx.translate(Calls(function).eval(), (x,)).source


def test_arguments_at_their_defaults_are_not_printed():
    x = torch.randn(3, 4)
    assert "kit.activations.softplus(x)" in source_of(F.softplus, x)
    beta = source_of(lambda x: F.softplus(x, beta=2.0), x)
    assert "kit.activations.softplus(x, beta=2.0)" in beta
    assert "kit.elementwise.logit(x)" in source_of(torch.logit, x)
    assert "kit.elementwise.logit(x, 0.1)" in source_of(lambda x: torch.logit(x, 0.1), x)
    assert "return -x" in source_of(torch.neg, x)


#: Numbers in the place of arrays, dtypes that torch promotes, other names of a function.
FUNCTIONS = (
    *(torch.exp, torch.sinc, torch.erfc, torch.special.expit, torch.neg, torch.sgn),
    *(lambda x: torch.xlogy(x, 2.0), lambda x: torch.xlogy(2.0, x.abs() + 1), torch.special.entr),
    *(lambda x: torch.copysign(x, -2.0), lambda x: torch.copysign(x, x.flip(0)), torch.signbit),
    *(lambda x: torch.lerp(x * 1.0, x * 2.0, 0.25), lambda x: torch.hypot(x * 1.0, x * 3.0)),
    *(lambda x: torch.heaviside(x * 1.0, x[0] * 1.0), torch.isnan, torch.logical_not),
    *(lambda x: torch.polygamma(1, x.abs() + 1), torch.square),
)
#: Those that torch has for floats alone.
OF_FLOATS = (F.silu, F.selu, lambda x: F.hardshrink(x, 0.3), F.softplus, F.hardswish)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16, torch.int64))
def test_values_and_dtypes_are_those_of_torch(dtype):
    def all_of(x):
        more = OF_FLOATS if x.is_floating_point() else ()
        return tuple(f(x) for f in (*FUNCTIONS, *more))

    for rows in (3, 5):
        x = (torch.linspace(-2, 2, rows * 2).reshape(rows, 2) * (1 if rows == 3 else 3)).to(dtype)
        model = Calls(all_of).eval()
        made = torch2mlx.translate(model, (x,))
        report = torch2mlx.verify(model, made, (x,))
        assert report.ok, str(report)


def test_gradients_are_those_of_torch():
    smooth = (torch.sinc, F.mish, torch.erfc, lambda x: torch.xlogy(x, x.abs() + 1), F.logsigmoid)
    x = torch.tensor([[-1.5, 0.0, 0.5], [0.1, 2.0, -0.3]], requires_grad=True)
    sum(f(x).sum() for f in smooth).backward()
    made = torch2mlx.translate(Calls(lambda x: tuple(f(x) for f in smooth)).eval(), (x.detach(),))
    slope = mx.grad(lambda x: sum(part.sum() for part in made.module(x)))
    close(slope(mx.array(x.detach().numpy())), x.grad.numpy())


@pytest.mark.parametrize("text", ("{x}.shape", "[{x}]", "{x} and {x}", "len({x})", "{x} << 2"))
def test_what_only_port_reads_is_refused(text):
    part = from_catalog._read(text, ("x",))
    with pytest.raises(Refuse, match="only port reads"):
        from_catalog._Writing(Builder(), {"x": 1.0}).of(part)


def test_a_form_is_taken_where_it_has_a_place_for_every_argument():
    short, long = (Form("f", names, "") for names in (("x",), ("x", "alpha")))
    arguments = {"self": 1, "alpha": 2}
    assert not from_catalog._fits(short, arguments, arguments)
    assert from_catalog._fits(short, arguments, {"self": 1})
    assert from_catalog._fits(long, arguments, arguments)
    (fixed,) = op("g", "x flag=True | mx.exp({x})")
    assert not from_catalog._fits(fixed.forms[0], {"self": 1, "flag": False}, {"self": 1})
