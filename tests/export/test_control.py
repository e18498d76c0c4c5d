"""Control flow, autocast and gradients of one's own: values and gradients as torch has them."""

import functools

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import torch
from torch import nn
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.map import map as map_items

import torch2mlx
from torch2mlx import translate
from torch2mlx.errors import ExportError, UnsupportedOperatorError
from torch2mlx.export.ir.structures import to_mlx


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.one(x).relu(), lambda x: self.other(x), (x,))


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x):
        start = (torch.tensor(0), x)
        return while_loop(
            lambda i, x: (i < 9) & (x.abs().sum() > 1e-3), lambda i, x: (i + 1, self.step(x)), start
        )


class Carried(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x):
        return scan(lambda c, x: (c + self.step(x).sin(), c * 2), torch.zeros(4), x)


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.each = nn.Linear(4, 4)

    def forward(self, x):
        return map_items(lambda x, y: self.each(x) + y, x, x[0].clone())


class Batched(nn.Module):
    """vmap over items, nested, over stacked weights, and where no gradient is kept."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.several = nn.Parameter(torch.randn(3, 4, 4))
        self.register_buffer("scale", torch.rand(4) + 0.5)

    def forward(self, x):
        each = torch.vmap(lambda r, s: self.one(r).tanh() * s, in_dims=(0, None))(x, self.scale)
        pairs = torch.vmap(torch.vmap(lambda a, b: (a * b).sum(), (None, 0)), (0, None))(each, x)
        many = torch.vmap(lambda w: self.two(x @ w).relu())(self.several)
        with torch.no_grad():
            places = torch.arange(x.shape[0])
            row = torch.vmap(lambda i, j: (i >= j) & (i - j < 3), in_dims=(None, 0))
            mask = torch.vmap(row, in_dims=(0, None))(places, places)
        scores = pairs.masked_fill(~mask, -1e4).softmax(-1)
        return scores @ many.mean(0), mask


class Rounded(torch.autograd.Function):
    """A straight-through estimator with a slope."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.slope * (x.abs() < 1), None


class Parted(torch.autograd.Function):
    """Two tensors in, two out, the context set up apart."""

    @staticmethod
    def forward(x, y):
        return x * y, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, first, second):
        _, y = ctx.saved_tensors
        return 3 * first * y + second, None


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = Rounded.apply(self.one(x), 0.7) + Rounded.apply(self.two(x), 0.2)
        a, b = Parted.apply(self.two(x), h)
        return a.sin() + b


MODELS = {kind.__name__: kind for kind in (Branches, Loop, Carried, Mapped, Own, Batched)}


def arrays(value):
    return [np.array(v) for v in value] if isinstance(value, (tuple, list)) else [np.array(value)]


@functools.cache
def translated(name):
    """A model in eval mode, its example, and its translation, made once."""
    torch.manual_seed(0)
    model, x = MODELS[name]().eval(), torch.randn(5, 4)
    return model, x, torch2mlx.translate(model, (x,))


@pytest.mark.parametrize("name", MODELS)
def test_values_follow_the_data(name):
    model, x, translation = translated(name)
    module = translation.module
    for given in (x, -x, x.abs() + 1, -x.abs() - 1, torch.randn(5, 4) * 1e-4):
        with torch.no_grad():
            expected = model(given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for e, f in zip(expected, arrays(module(to_mlx(given))), strict=True):
            np.testing.assert_allclose(f, e.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["Branches", "Carried", "Mapped", "Own", "Batched"])
def test_gradients_agree(name):
    torch.manual_seed(0)
    model, x = MODELS[name]().train(), torch.randn(5, 4)
    module = torch2mlx.translate(model, (x,)).module
    first = lambda value: value[0] if isinstance(value, (tuple, list)) else value
    (first(model(x)) ** 2).sum().backward()
    loss = lambda module: mx.sum(mx.square(first(module(to_mlx(x)))))
    _, gradients = mlx.nn.value_and_grad(module, loss)(module)
    compared = 0
    for name, parameter in model.named_parameters():
        found = gradients
        for part in name.split("."):
            found = found[part]
        wanted = 0 if parameter.grad is None else parameter.grad.numpy()
        np.testing.assert_allclose(np.array(found), wanted, atol=1e-4, rtol=1e-4)
        compared += parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    assert compared >= 2


def test_the_function_keeps_its_own_gradient():
    """Rounding has no slope of its own: only the Function's backward gives one."""
    source = torch2mlx.translate(Own(), (torch.randn(2, 4),)).source
    assert "def rounded_backward" in source
    assert "kit.control.with_backward(rounded_forward, rounded_backward" in source


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            weights = self.norm(self.inner(x)).softmax(-1)
            return weights @ weights.T, weights, self.inner(x)


def test_autocast_computes_in_the_dtypes_of_torch():
    torch.manual_seed(0)
    model, x = Halved().eval(), torch.randn(5, 4)
    found = torch2mlx.translate(model, (x,)).module(to_mlx(x))
    with torch.no_grad():
        expected = model(x)
    for e, f in zip(expected, found, strict=True):
        assert str(e.dtype).split(".")[1] == str(f.dtype).split(".")[-1]
        np.testing.assert_allclose(np.array(f.astype(mx.float32)), e.float().numpy(), atol=2e-2)


@pytest.mark.parametrize("length", [1, 3, 8])
def test_vmap_takes_any_number_of_items(length):
    model, _, translation = translated("Batched")
    module, given = translation.module, torch.randn(length, 4)
    with torch.no_grad():
        expected = model(given)
    for e, f in zip(expected, module(to_mlx(given)), strict=True):
        np.testing.assert_allclose(np.array(f), e.numpy(), atol=1e-5)


class Sensitive(nn.Module):
    """torch.export would write the values of this call's input into such a program."""

    def forward(self, x):
        return torch.func.grad(lambda a: (a * a).sin().sum())(x)


def test_transforms_of_torch_func_are_refused():
    with pytest.raises(ExportError, match="grad, vjp, jvp"):
        translate(Sensitive(), (torch.randn(3),))


class Inner(nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other, self.drop = one, other, nn.Dropout(0.5)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda v: self.one(self, v), self.other, (x,))


class Outer(nn.Module):
    def __init__(self, one, other=torch.neg):
        super().__init__()
        self.inner = Inner(one, other)

    def forward(self, x):
        return self.inner(x * 2)


def test_what_both_branches_lack_is_told_with_the_module():
    model = Outer(lambda inner, x: torch.special.airy_ai(x), lambda x: torch.special.airy_ai(x + 1))
    with pytest.raises(UnsupportedOperatorError) as caught:
        translate(model, (torch.randn(3),))
    found = caught.value.findings
    assert len(found) == 2
    assert all(told.startswith("aten.special_airy_ai.default in inner (") for told in found)


def test_a_branch_that_draws_is_compared_with_torchs_draws():
    model = Outer(lambda inner, x: x * torch.rand_like(x)).eval()
    made = translate(model, (torch.rand(3, 4),))
    for given in (torch.rand(3, 4), -torch.rand(2, 5)):
        assert torch2mlx.verify(model, made, (given,)).ok


def test_a_branch_that_follows_a_mode_is_refused():
    with pytest.raises(UnsupportedOperatorError, match="follows the mode of its module"):
        translate(Outer(lambda inner, x: inner.drop(x)).train(), (torch.rand(3, 4),))
