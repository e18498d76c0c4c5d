"""Values and gradients where functions have corners: zeros behind relu, ties, powers of 0."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from torch2mlx import kit
from torch2mlx.export.ir.structures import to_mlx

X = torch.tensor([[-2.0, -1.0, 0.0, 0.0, 1.0], [3, -0.5, 0, 0.5, 6], [-3, 2, 1, -6, 0]])
Y = torch.tensor([[-2.0, 1, 0, 1, 1], [2, -0.5, -1, 0.5, 6], [-3, 3, 1, -6, 0]])
NAN = float("nan")


class Several(nn.Module):
    """Answers what each of some functions gives."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, *args):
        return [function(*args) for function in self.functions]


def gradients(outputs, inputs):
    """torch's gradients of all items together, each with a weight of its own."""
    total = sum((y * torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)).sum() for y in outputs)
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    pairs = zip(found, inputs, strict=True)
    return [torch.zeros_like(x) if g is None else g for g, x in pairs]


def mlx_gradients(function, inputs):
    def total(*arrays):
        parts = function(*arrays)
        parts = parts if isinstance(parts, (tuple, list)) else [parts]
        floats = [y for y in parts if y.dtype == mx.float32]
        return sum((y * mx.linspace(0.5, 1.5, y.size).reshape(y.shape)).sum() for y in floats)

    found = mx.grad(total, argnums=list(range(len(inputs))))(*inputs)
    return found if isinstance(found, tuple) else (found,)


def compare(functions, *args, tolerance=1e-5):
    """Each function's values and gradients in both frameworks, NaN and infinity included."""
    made = torch2mlx.translate(Several(list(functions.values())), args).module
    given = [to_mlx(x) for x in args]
    for i, (name, function) in enumerate(functions.items()):
        leaves = [x.clone().requires_grad_() for x in args]
        expected = function(*leaves)
        expected = expected if isinstance(expected, (tuple, list)) else [expected]
        found = made(*given)[i]
        found = found if isinstance(found, (tuple, list)) else [found]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.array(a), b.detach(), tolerance, tolerance, err_msg=name)
        floats = [y for y in expected if y.requires_grad]
        if floats:
            slopes = mlx_gradients(lambda *x, i=i: made(*x)[i], given)
            for a, b in zip(slopes, gradients(floats, leaves), strict=True):
                np.testing.assert_allclose(np.array(a), b, 1e-4, tolerance, err_msg=name)


BLOCKED = {
    "relu": lambda x, y: torch.relu(x).sqrt(),
    "relu, log": lambda x, y: torch.relu(x).log(),
    "relu, power": lambda x, y: torch.relu(x) ** 0.5,
    "relu, divisor": lambda x, y: 1 / torch.relu(x),
    "relu in place": lambda x, y: torch.relu_(x * 1).rsqrt(),
    "a sum of relus": lambda x, y: torch.relu(x - 10).sum(1).sqrt(),
    "clamp": lambda x, y: x.clamp(min=0).sqrt(),
    "clamp, both": lambda x, y: x.clamp(0, 1).sqrt(),
    "clamp, above": lambda x, y: (-x.clamp(max=0)).sqrt(),
    "clamp by arrays": lambda x, y: torch.clamp(x, y - 1, y),
    "clamp_min": lambda x, y: torch.clamp_min(x, 0.0).sqrt(),
    "maximum": lambda x, y: torch.maximum(x, torch.zeros(())).sqrt(),
    "minimum": lambda x, y: (-torch.minimum(x, torch.zeros(()))).sqrt(),
    "hardtanh": lambda x, y: F.hardtanh(x, 0, 6).sqrt(),
    "relu6": lambda x, y: F.relu6(x).log(),
    "threshold": lambda x, y: F.threshold(x, 0, 0).sqrt(),
    "leaky_relu": lambda x, y: F.leaky_relu(x, 0.0).sqrt(),
    "where": lambda x, y: torch.where(x > 0, x, 0.0).sqrt(),
    "masked_fill": lambda x, y: x.masked_fill(x < 0, 0.0).sqrt(),
    "the least of two": lambda x, y: torch.min(y.exp(), torch.relu(x)).sqrt(),
    "arcs": lambda x, y: torch.asin(x.clamp(-1, 1)) + torch.log1p(x.clamp(min=-1)),
    "std": lambda x, y: torch.relu(x - 7).std(1),
}


def test_a_blocked_gradient_is_zero_where_a_root_follows():
    compare(BLOCKED, X, Y)


class Layered(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(5, 5), nn.ReLU(), nn.Hardtanh(0, 2)

    def forward(self, x):
        return self.act(self.first(x)).sqrt() + self.last(x).sqrt()


def test_layers_are_followed_too():
    torch.manual_seed(0)
    model = Layered()
    made = torch2mlx.translate(model, (X,)).module
    model(X).sum().backward()
    found = mx.grad(lambda weight: _with(made, weight)(to_mlx(X)).sum())(made.first.weight)
    np.testing.assert_allclose(found, model.first.weight.grad, 1e-4, 1e-5)


def _with(model, weight):
    model.first.weight = weight
    return model


def test_where_no_slope_is_without_bound_mlx_has_its_own_functions():
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU())
    assert "kit.kinks" not in torch2mlx.translate(net, (X,)).source

    class Scaled(nn.Module):
        def forward(self, x):
            h = torch.relu(x)
            return h / (h.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    assert "kit.kinks" not in torch2mlx.translate(Scaled(), (X,)).source


TIES = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "max": lambda x, y: x.max(),
    "max along": lambda x, y: x.max(1),
    "min along": lambda x, y: x.min(0),
    "amax": lambda x, y: x.amax(1),
    "amin": lambda x, y: x.amin((0, 1)),
    "aminmax": lambda x, y: torch.aminmax(x, dim=1),
    "median": lambda x, y: x.median(),
    "median along": lambda x, y: x.median(1),
    "topk": lambda x, y: x.topk(2, 1),
    "abs": lambda x, y: x.abs(),
    "clamp at its limits": lambda x, y: x.clamp(-1, 1) * 3 + x.clamp(min=0) + x.clamp(max=0),
    "leaky_relu": lambda x, y: F.leaky_relu(x, 0.1),
    "prelu": lambda x, y: F.prelu(x, torch.tensor([0.25])),
    "margin_ranking_loss": lambda x, y: F.margin_ranking_loss(x, y, y.sign()),
    "hinge_embedding_loss": lambda x, y: F.hinge_embedding_loss(x, y.sign()),
    "l1_loss": F.l1_loss,
    "norm": lambda x, y: (x * 0).norm() + torch.linalg.vector_norm(x, float("inf"), dim=1),
    "norms of zeros": lambda x, y: sum((x * 0).norm(p, dim=1) for p in (0.5, 1, 2, 3)),
    "half norm": lambda x, y: torch.linalg.vector_norm(x, 0.5, dim=1),
    "distances": lambda x, y: torch.cdist(x, x) + F.pairwise_distance(x, x),
    "cosine": lambda x, y: F.cosine_similarity(x * 0, y, dim=1) + F.normalize(x * 0).sum(),
    "powers": lambda x, y: x**0 + x**1 + x**2 + x.abs() ** 1.5,
    "power of arrays": lambda x, y: torch.relu(x) ** y.abs(),
    "power of zero": lambda x, y: 0 ** x.abs(),
    "atan2": torch.atan2,
    "xlogy": lambda x, y: torch.xlogy(x, y.abs()) + torch.xlogy(2.5, x.abs()),
    "xlogy of a row": lambda x, y: torch.xlogy(x, y[:1].abs()),
    "xlog1py": lambda x, y: torch.special.xlog1py(x, y.abs() - 1),
    "entropy": lambda x, y: torch.special.entr(x.abs()),
    "rests": lambda x, y: torch.fmod(x, 1.0) + torch.fmod(x, y + 0.3),
    "rest of a row": lambda x, y: torch.fmod(x, y[:1] + 0.3) + torch.fmod(x, torch.inf),
    "std of equal items": lambda x, y: (x * 0).std(1) + (x * 0).var(1),
    "binary_cross_entropy": lambda x, y: F.binary_cross_entropy(x.clamp(0, 1), (y > 0).float()),
    "cumulative": lambda x, y: x.cumprod(1) + x.cummax(1).values,
}


def test_equal_items_and_zeros_have_the_gradients_of_torch():
    compare(TIES, X, Y)


def test_functions_of_the_kit_alone():
    x, y = to_mlx(X), to_mlx(Y)
    pairs = (
        (lambda x, y: kit.kinks.where(x > 0, x, 0), lambda x, y: torch.where(x > 0, x, 0.0)),
        (lambda x, y: kit.kinks.relu(x), lambda x, y: torch.relu(x)),
        (lambda x, y: kit.kinks.clip(x, -1, y), lambda x, y: torch.clamp(x, -torch.ones(()), y)),
        (lambda x, y: kit.kinks.maximum(x, 0), lambda x, y: torch.maximum(x, torch.zeros(()))),
        (lambda x, y: kit.kinks.power(mx.abs(x), mx.abs(y)), lambda x, y: x.abs() ** y.abs()),
        (lambda x, y: kit.kinks.threshold(x, 0, 2), lambda x, y: F.threshold(x, 0, 2)),
        (lambda x, y: kit.kinks.largest(x, 1, True), lambda x, y: x.max(1, keepdim=True).values),
        (lambda x, y: kit.kinks.fmax(x, y[:1]), lambda x, y: torch.fmax(x, y[:1])),
    )
    for ours, theirs in pairs:
        leaves = [X.clone().requires_grad_(), Y.clone().requires_grad_()]
        np.testing.assert_allclose(ours(x, y), theirs(*leaves).detach())
        slopes = gradients([theirs(*leaves)], leaves)
        for a, b in zip(mlx_gradients(ours, [x, y]), slopes, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    odd = mx.array([NAN, -1.0, 1.0])
    for function in (kit.kinks.relu, lambda x: kit.kinks.clip(x, 0, 1), kit.kinks.hardtanh):
        assert mx.isnan(function(odd)).tolist() == [True, False, False]
    assert kit.kinks.fmax(odd, mx.zeros(3)).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("compiled", (False, True))
def test_selecting_gradients_survive_transforms(compiled):
    function = lambda x: mx.sqrt(kit.kinks.relu(x)).sum()
    slope = mx.grad(function)
    slope = mx.compile(slope) if compiled else slope
    assert slope(mx.array([-1.0, -2.0, 4.0])).tolist() == [0.0, 0.0, 0.25]
    cube = lambda x: (kit.kinks.relu(x) ** 3).sum()
    second = mx.grad(lambda x: mx.grad(cube)(x).sum())
    assert second(mx.array([-1.0, 2.0])).tolist() == [0.0, 12.0]


NONE = torch.full((3,), -100)


def test_the_mean_over_no_target_is_nan_and_has_no_gradient():
    """A batch of padding alone: torch's step leaves the weights as they are."""
    weight = torch.arange(1.0, 6)
    losses = {
        "cross entropy": lambda x, y: F.cross_entropy(x, NONE),
        "weighted": lambda x, y: F.cross_entropy(x, NONE, weight),
        "smoothed": lambda x, y: F.cross_entropy(x, NONE, label_smoothing=0.1),
        "nll": lambda x, y: F.nll_loss(x, NONE),
        "some are left": lambda x, y: F.cross_entropy(x, torch.tensor([1, -100, 2])),
    }
    compare(losses, X, Y)


KEPT = torch.tensor([[False, False, False], [True, False, True], [True, True, True]])
BELOW = -torch.inf


def in_place(x, y):
    return (x * 2).masked_fill_(Y[:, :3] < 5, BELOW).softmax(-1).nan_to_num()


#: A row that is masked whole is NaN after its softmax, and replaced later.
ROWS = {
    "filled again": lambda x, y: x.masked_fill(~KEPT, BELOW).softmax(1).masked_fill(~KEPT, 0),
    "NaN to 0, after a product": lambda x, y: torch.nan_to_num(
        torch.where(KEPT, x, BELOW).softmax(1) @ y
    ),
    "of a constant": lambda x, y: (
        torch.where(KEPT, x, torch.full_like(x, BELOW)).view(1, 3, 3).softmax(-1).nan_to_num()
    ),
    "logsumexp": lambda x, y: x.masked_fill(~KEPT, BELOW).logsumexp(1).clamp(min=-9),
    "log_softmax": lambda x, y: torch.where(
        KEPT, torch.where(KEPT, x, BELOW).log_softmax(1), 0 * y
    ),
    "divided": lambda x, y: (x.masked_fill(~KEPT, BELOW) / 2 + y).softmax(1).nan_to_num(),
    "in place": in_place,
}


def test_rows_that_are_masked_whole_have_no_gradient():
    compare(ROWS, X[:, :3], Y[:, :3])


def test_masks_stay_mlx_own_where_no_row_is_replaced():
    class Attends(nn.Module):
        def forward(self, x):
            for _ in range(2):
                x = torch.relu(x.masked_fill(~KEPT, BELOW).softmax(-1) @ x)
            return x

    assert "kit.kinks" not in torch2mlx.translate(Attends(), (X[:, :3],)).source


@pytest.mark.parametrize("axis", (0, 1, 2))
def test_log_softmax_of_an_axis_of_one(axis):
    """MLX's own, which is compiled without shapes, ends the process there."""
    module = Several([lambda x: x.log_softmax(axis)])
    made = torch2mlx.translate(module, (torch.randn(2, 3, 4),)).module
    for shape in ((2, 3, 4), (1, 1, 1), (1, 3, 1), (3, 1, 2)):
        x = torch.randn(shape)
        np.testing.assert_allclose(made(to_mlx(x))[0], x.log_softmax(axis), 1e-5, 1e-6)
        np.testing.assert_allclose(
            kit.activations.log_softmax(to_mlx(x) + 1e4, axis), x.log_softmax(axis), 1e-2, 1e-2
        )


def test_a_limit_that_is_nan_gives_nan():
    nan = float("nan")
    x, low, high = ([1.0, nan, 3.0, -5.0], [nan, 0.0, 5.0, -1.0], [2.0, 1.0, nan, 0.0])
    for limits in ((low, high), (low, None), (None, high), (nan, None), (None, nan)):
        theirs = [torch.tensor(v) if isinstance(v, list) else v for v in limits]
        ours = [mx.array(v) if isinstance(v, list) else v for v in limits]
        expected = torch.clamp(torch.tensor(x), *theirs).numpy()
        np.testing.assert_array_equal(np.array(kit.kinks.clip(mx.array(x), *ours)), expected)
